"""What lands in site-packages, and that no room was forgotten."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_on_disk_is_listed() -> None:
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    folders = {"localmtp": "localmtp", "convert": "localmtp.convert"} | {
        "models": "localmtp.models",
        "tui": "localmtp.tui",
    }
    found = set()
    for folder, name in folders.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            if not (folder == "localmtp" and inner[:1] and inner[0] in folders):
                found.add(".".join((name, *inner)))
    assert listed == found


def test_rooms_import_inside_localmtp_only() -> None:
    for room in ("convert", "models", "tui"):
        assert find_spec(f"localmtp.{room}") is not None
