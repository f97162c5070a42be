"""JSON from servers: bounded, and checked before it is used as numbers or text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from localmtp.unicode import replace_surrogates

_MAX_COUNT = 2**53
"""Larger counts are not plausible, and JSON numbers are not exact beyond it."""


def parsed(data: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is invalid, or nested too deeply.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def count(value: Any) -> int:
    """A number of tokens or drafts.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"not a count: {value!r:.40}")
    if not 0 <= value <= _MAX_COUNT:  # false for NaN as well
        raise ValueError(f"not a plausible count: {value!r:.40}")
    return int(value)


def number(value: Any) -> float:
    """A finite, non-negative number, such as a time.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"not a number: {value!r:.40}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"not a plausible number: {value!r:.40}")
    return float(value)


def text(value: Any) -> str:
    """Text without lone surrogates, which could not be saved; empty for null.

    Raises:
        ValueError: it is not text.
    """
    if not isinstance(value, str | None):
        raise ValueError(f"not text: {value!r:.40}")
    return replace_surrogates(value or "")


def mapping(value: Any) -> Mapping[str, Any]:
    """An object; empty for null.

    Raises:
        ValueError: it is not an object.
    """
    if not isinstance(value, Mapping | None):
        raise ValueError(f"not an object: {value!r:.40}")
    return value or {}
