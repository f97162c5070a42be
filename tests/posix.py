"""Marks for tests of what Windows does not have."""

from __future__ import annotations

import sys

import pytest

needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="on Windows no signal can be sent to one process alone"
)
needs_resource_limits = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limits on file size"
)
