"""The model to run where none is named."""

from __future__ import annotations

import tomllib

from localmtp.errors import LocalmtpError
from localmtp.models.embedded import NANO
from localmtp.models.memory.available import available_memory
from localmtp.paths import config_file


def default_model() -> str:
    """Returns the configured model, else the largest installed one that fits, else `nano`.

    Raises:
        LocalmtpError: the configuration cannot be read.
    """
    return _configured() or _largest_that_fits() or NANO


def _configured() -> str:
    file = config_file()
    if not file.exists():
        return ""
    try:
        return str(tomllib.loads(file.read_text(encoding="utf-8")).get("model", ""))
    except (OSError, ValueError) as fault:
        raise LocalmtpError(f"cannot read {file}: {fault}") from fault


def _largest_that_fits() -> str:
    from localmtp.models.store.installed import installed_models

    models = sorted(installed_models(), key=lambda model: model.weights, reverse=True)
    if not models:
        return ""
    budget = available_memory()
    return next((model.name for model in models if model.fits(budget)), "")
