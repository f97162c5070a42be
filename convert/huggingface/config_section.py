"""Typed look-ups in config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localmtp.errors import LocalmtpError


class ConfigSection:
    """Typed look-ups in one JSON object of config.json; errors name the file and the key.

    Args:
        path: the file.
        raw: the object.
    """

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self._path = path
        self.raw = raw

    def section(self, key: str) -> ConfigSection:
        """Return an object inside this one.

        Raises:
            LocalmtpError: there is none.
        """
        value = self.raw.get(key)
        if not isinstance(value, dict):
            raise self.invalid(key)
        return ConfigSection(self._path, value)

    def count(self, key: str, default: int, *, at_least: int = 1) -> int:
        """Return an integer; the default where the key is missing or null.

        Raises:
            LocalmtpError: the value is not an integer, too small, or beyond 31 bits.
        """
        value = self.raw.get(key)
        if value is None:
            return default
        if type(value) is not int or not at_least <= value < 1 << 31:
            raise self.invalid(key)
        return value

    def optional_count(self, key: str) -> int | None:
        """Return an integer; None where the key is missing or null.

        Raises:
            LocalmtpError: the value is not a positive integer of 31 bits.
        """
        return None if self.raw.get(key) is None else self.count(key, 0)

    def number(self, key: str, default: float) -> float:
        """Return a number; the default where the key is missing or null.

        Raises:
            LocalmtpError: the value is not a number, negative, or not finite.
        """
        value = self.raw.get(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or not 0 <= value < 1e30:
            raise self.invalid(key)
        return float(value)

    def invalid(self, key: str) -> LocalmtpError:
        """Build the error for a value."""
        return LocalmtpError(f"{self._path}: invalid {key}: {str(self.raw.get(key))[:60]}")
