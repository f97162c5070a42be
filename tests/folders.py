"""The user's folders, moved elsewhere by environment variables on every operating system."""

from __future__ import annotations

from pathlib import Path

import pytest


def user_folders(folder: Path, *kinds: str) -> dict[str, str]:
    """Environment variables that place `CONFIG`, `DATA` or `STATE` of a program in a folder.

    Windows has one folder for all of them.
    """
    variables = {f"XDG_{kind}_HOME": str(folder) for kind in kinds}
    return variables | {"WIN_PD_OVERRIDE_LOCAL_APPDATA": str(folder)}


def move_user_folders(patch: pytest.MonkeyPatch, folder: Path, *kinds: str) -> None:
    """Set those variables for this process and the programs that it starts."""
    for name, value in user_folders(folder, *kinds).items():
        patch.setenv(name, value)
