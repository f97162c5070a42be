"""The model that is meant when none is named."""

from __future__ import annotations

import tomllib

from localmtp.errors import LocalmtpError
from localmtp.models.memory.available import room_here
from localmtp.paths import config_file


def default_model() -> str:
    """The configured model, else the largest one here that fits this machine, else `nano`.

    Raises:
        LocalmtpError: the configuration cannot be read.
    """
    return _configured() or _largest_that_fits() or "nano"


def _configured() -> str:
    file = config_file()
    if not file.exists():
        return ""
    try:
        return str(tomllib.loads(file.read_text(encoding="utf-8")).get("model", ""))
    except (OSError, ValueError) as fault:
        raise LocalmtpError(f"cannot read {file}: {fault}") from fault


def _largest_that_fits() -> str:
    from localmtp.models.store.installed import installed

    here = sorted(installed(), key=lambda model: model.weights, reverse=True)
    if not here:
        return ""
    room = room_here()
    return next((model.name for model in here if model.fits(room)), "")
