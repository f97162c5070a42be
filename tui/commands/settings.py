"""Settings as people write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localmtp.errors import LocalmtpError
from localmtp.limits import MAX_DRAFT

if TYPE_CHECKING:
    from localmtp.session import Settings

KEYS = {
    "temp": "0 is greedy",
    "top-k": "0 is no limit",
    "top-p": "0..1",
    "min-p": "0..1",
    "seed": "random, or a number",
    "max-tokens": "none, or a number",
    "draft": f"auto, or 0..{MAX_DRAFT}; 0 is none",
    "on-full": "stop, or drop the oldest",
}
"""What can be set, and to what."""

_SAMPLING: dict[str, tuple[str, Callable[[str], float | None], float]] = {
    "temp": ("temperature", float, float("inf")),
    "top-k": ("top_k", int, float("inf")),
    "top-p": ("top_p", float, 1.0),
    "min-p": ("min_p", float, 1.0),
    "seed": ("seed", lambda text: None if text == "random" else int(text), float("inf")),
}


def changed(settings: Settings, key: str, value: str) -> Settings:
    """The settings with one changed.

    Args:
        settings: as they are.
        key: of `KEYS`.
        value: as written.

    Raises:
        LocalmtpError: there is no such setting, or it cannot have that value.
    """
    try:
        if key == "draft":
            length = None if value == "auto" else int(value)
            _check(length, MAX_DRAFT)
            return replace(settings, n_draft=length)
        if key == "on-full":
            return replace(settings, on_full=type(settings.on_full)(value))
        if key == "max-tokens":
            limit = None if value == "none" else int(value)
            _check(None if limit is None else limit - 1, float("inf"))
            return replace(settings, max_tokens=limit)
        if key not in _SAMPLING:
            raise LocalmtpError(f"there is no setting `{key}`", hint=f"one of {', '.join(KEYS)}")
        name, read, most = _SAMPLING[key]
        number = read(value)
        _check(number, most)
        field: dict[str, Any] = {name: number}
        return replace(settings, sampling=replace(settings.sampling, **field))
    except ValueError as error:
        raise LocalmtpError(f"`{key}` cannot be `{value}`") from error


def carried(old: Settings, default: Settings, new: Settings) -> Settings:
    """The settings of a conversation that goes on with another model.

    Args:
        old: as they are.
        default: with which the old model was loaded: what differs from it was set by hand.
        new: with which the new model was loaded.
    """
    sampling = new.sampling if old.sampling == default.sampling else old.sampling
    return replace(old, sampling=sampling)


def shown(settings: Settings, key: str) -> str:
    """A setting as `changed` takes it."""
    if key == "draft":
        return "auto" if settings.n_draft is None else str(settings.n_draft)
    if key == "on-full":
        return settings.on_full
    if key == "max-tokens":
        return str(settings.max_tokens or "none")
    value = getattr(settings.sampling, _SAMPLING[key][0])
    return "random" if value is None else str(value)


def _check(number: float | None, most: float) -> None:
    if number is not None and not 0 <= number <= most:
        raise ValueError(number)
