"""The product's modules, parsed without importing them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

PACKAGES = {
    "localmtp": ROOT / "localmtp",
    "localmtp.convert": ROOT / "convert",
    "localmtp.models": ROOT / "models",
    "localmtp.tui": ROOT / "tui",
}


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*.py"))
        if not any(folder / name in path.parents for name in ("convert", "models", "tui"))
    ]


@cache
def modules() -> dict[str, ast.Module]:
    """Returns every module of the product by its dotted name, parsed."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in _files(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text("utf-8"))
    return found
