"""Valid values of settings and load options."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite

from localmtp.engine.kv_type import KVType
from localmtp.engine.sampling.params import AcceptanceRule, OnRepeat
from localmtp.limits import (
    MAX_DRAFT,
    MAX_MULTIAXIAL_IMAGE_TOKENS,
    MAX_THREADS,
    MIN_CONTEXT,
    MIN_IMAGE_TOKENS,
)


def violated_range(name: str, value: object) -> str:
    """Returns the range that a value violates, for users; empty if the value is valid.

    Args:
        name: of the setting or load option; those without a range are always valid.
        value: anything.
    """
    if name not in _RANGES:
        return ""
    is_valid, expected = _RANGES[name]
    return "" if is_valid(value) else expected


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _number(
    least: float, most: float, *, above: bool = False, below: bool = False, whole: bool = False
) -> Callable[[object], bool]:
    """Returns a check of an interval, without its ends where `above` or `below` is set."""

    def check(value: object) -> bool:
        if not is_number(value) or (whole and not isinstance(value, int)):
            return False
        assert isinstance(value, int | float)
        return (least < value if above else least <= value) and (
            value < most if below else value <= most
        )

    return check


_RANGES: dict[str, tuple[Callable[[object], bool], str]] = {
    "temperature": (_number(0, inf), "0 or more"),
    "top_k": (_number(0, inf, whole=True), "0 or more"),
    "top_p": (_number(0, 1, above=True), "more than 0, at most 1"),
    "min_p": (_number(0, 1, below=True), "at least 0, less than 1"),
    "seed": (_number(0, inf, whole=True), "0 or more"),
    "acceptance": (
        lambda value: value in list(AcceptanceRule),
        f"one of: {', '.join(AcceptanceRule)}",
    ),
    "repeat_penalty": (_number(0, 10, above=True), "more than 0, at most 10"),
    "presence_penalty": (_number(-2, 2), "-2 to 2"),
    "frequency_penalty": (_number(-2, 2), "-2 to 2"),
    "dry_multiplier": (_number(0, 100), "0 to 100"),
    "dry_base": (_number(1, 100), "1 to 100"),
    "dry_allowed_length": (_number(1, inf, whole=True), "1 or more"),
    "dry_penalty_last_n": (_number(-1, inf, whole=True), "-1 or more"),
    "on_repeat": (lambda value: value in list(OnRepeat), f"one of: {', '.join(OnRepeat)}"),
    "n_draft": (_number(0, MAX_DRAFT, whole=True), f"0 to {MAX_DRAFT}"),
    "max_tokens": (_number(1, inf, whole=True), "1 or more"),
    "think_budget": (_number(0, inf, whole=True), "0 or more"),
    "ctx": (_number(MIN_CONTEXT, inf, whole=True), f"{MIN_CONTEXT} or more"),
    "threads": (_number(1, MAX_THREADS, whole=True), f"1 to {MAX_THREADS}"),
    "gpu_layers": (_number(0, inf, whole=True), "0 or more"),
    "kv_type": (lambda value: value in list(KVType), f"one of: {', '.join(KVType)}"),
    "batch": (_number(1, inf, whole=True), "1 or more"),
    "image_tokens": (
        _number(MIN_IMAGE_TOKENS, MAX_MULTIAXIAL_IMAGE_TOKENS, whole=True),
        f"{MIN_IMAGE_TOKENS} to {MAX_MULTIAXIAL_IMAGE_TOKENS}",
    ),
}
"""Checks and their descriptions, by the names that the command line and Python use."""
