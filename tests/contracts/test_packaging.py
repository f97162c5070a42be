"""Contents of the wheel: every package on disk except the recipe, all inside localmtp."""

import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "localmtp": "localmtp",
    "convert": "localmtp.convert",
    "models": "localmtp.models",
    "tui": "localmtp.tui",
}
NOT_IN_THE_WHEEL = ("localmtp.models.recipe",)
"""Packages that only a checkout and the source distribution have."""


def setuptools_settings() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: dict[str, Any] = settings["tool"]["setuptools"]
    return found


def packages_on_disk() -> set[str]:
    found = set()
    for folder, name in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            if not (folder == "localmtp" and inner and inner[0] in FOLDERS):
                found.add(".".join((name, *inner)))
    return found


def test_every_package_on_disk_is_listed() -> None:
    expected = {name for name in packages_on_disk() if not name.startswith(NOT_IN_THE_WHEEL)}
    assert set(setuptools_settings()["packages"]) == expected


def test_the_recipe_is_in_the_source_distribution_only() -> None:
    assert "graft models/recipe" in (ROOT / "MANIFEST.in").read_text().splitlines()
    assert setuptools_settings()["include-package-data"] is False
    assert find_spec("localmtp.models.recipe") is not None


def test_top_level_folders_are_imported_inside_localmtp() -> None:
    for folder in ("convert", "models", "tui"):
        assert find_spec(f"localmtp.{folder}") is not None
