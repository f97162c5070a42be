"""Valid values of generation settings."""

from __future__ import annotations

from math import isfinite

from localmtp.limits import MAX_DRAFT

_INTEGERS = frozenset({"top_k", "seed", "n_draft", "max_tokens"})

_EXPECTED = {
    "temperature": "0 or more",
    "top_k": "0 or more",
    "top_p": "more than 0, at most 1",
    "min_p": "at least 0, less than 1",
    "seed": "0 or more",
    "repeat_penalty": "more than 0, at most 10",
    "presence_penalty": "-2 to 2",
    "frequency_penalty": "-2 to 2",
    "n_draft": f"0 to {MAX_DRAFT}",
    "max_tokens": "1 or more",
}


def violated_range(name: str, value: object) -> str:
    """Returns the range that a value violates, for users; empty if the value is valid.

    Args:
        name: of the setting; those without a range are always valid.
        value: anything.
    """
    if name not in _EXPECTED or _is_valid(name, value):
        return ""
    return _EXPECTED[name]


def _is_valid(name: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return False
    if name in _INTEGERS and not isinstance(value, int):
        return False
    match name:
        case "top_p":
            return 0 < value <= 1
        case "min_p":
            return 0 <= value < 1
        case "repeat_penalty":
            return 0 < value <= 10
        case "presence_penalty" | "frequency_penalty":
            return -2 <= value <= 2
        case "n_draft":
            return 0 <= value <= MAX_DRAFT
        case "max_tokens":
            return value >= 1
    return value >= 0
