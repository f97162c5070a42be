"""From the name that a user writes to files on disk."""

from __future__ import annotations

import re
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.models.files import ModelFiles

NANO = "nano"
_NANO_FOLDER = Path(__file__).with_name("nano")


def resolve(model: str | None, *, drafter: str | None = None, offline: bool = False) -> ModelFiles:
    """Find the files of a model.

    Args:
        model: `nano`, a registry name, `USER/REPO[:QUANT]` or `PATH.gguf`; None for the default.
        drafter: a path, `none` to run without one, or None for the model's own.
        offline: never touch the network.

    Raises:
        LocalmtpError: an unknown name, a missing file, or files that do not belong together.
    """
    if model is None or model == NANO:
        return _embedded(drafter)
    if "\0" not in model and _is_path(model):
        from localmtp.models.local import resolve_path

        return resolve_path(Path(model).expanduser(), drafter)
    raise _unknown(model)


def _embedded(drafter: str | None) -> ModelFiles:
    target = _NANO_FOLDER / "nano-Q8_0.gguf"
    if drafter is None:
        return ModelFiles(NANO, target, _NANO_FOLDER / "mtp-nano-Q8_0.gguf", NANO)
    if drafter == "none":
        return ModelFiles(NANO, target, None, "", "--drafter none")
    from localmtp.models.local import pair

    return pair(NANO, target, Path(drafter).expanduser())


def _is_path(model: str) -> bool:
    return (
        model.lower().endswith(".gguf")
        or re.match(r"[.~]{0,2}[/\\]|[A-Za-z]:[/\\]", model) is not None
        or (model != "" and Path(model).exists())
    )


def _unknown(model: str) -> LocalmtpError:
    from difflib import get_close_matches

    near = get_close_matches(model.lower(), [NANO], n=3)
    hint = f"Did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""
    return LocalmtpError(
        f"unknown model {model!r}",
        hint=hint or "`localmtp list` shows the models; a local file ends in `.gguf`",
    )
