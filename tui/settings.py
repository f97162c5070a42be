"""Settings as people write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localmtp.engine.stats import MAX_DRAFT
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.session import Settings

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
        key: `temp`, `top-k`, `top-p`, `min-p`, `seed`, `max-tokens` or `draft`.
        value: as written; `none` for no limit, `auto` for a paced draft, `random` for no seed.

    Raises:
        LocalmtpError: there is no such setting, or it cannot have that value.
    """
    try:
        if key == "draft":
            length = None if value == "auto" else int(value)
            _check(length, MAX_DRAFT)
            return replace(settings, n_draft=length)
        if key == "max-tokens":
            limit = None if value == "none" else int(value)
            _check(None if limit is None else limit - 1, float("inf"))
            return replace(settings, max_tokens=limit)
        if key not in _SAMPLING:
            known = ", ".join((*_SAMPLING, "max-tokens", "draft"))
            raise LocalmtpError(f"there is no setting `{key}`", hint=f"settings: {known}")
        name, read, most = _SAMPLING[key]
        number = read(value)
        _check(number, most)
        field: dict[str, Any] = {name: number}
        return replace(settings, sampling=replace(settings.sampling, **field))
    except ValueError as error:
        raise LocalmtpError(f"`{key}` cannot be `{value}`") from error


def _check(number: float | None, most: float) -> None:
    if number is not None and not 0 <= number <= most:
        raise ValueError(number)
