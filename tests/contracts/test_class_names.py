"""Class names are unique in the product."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.contracts.sources import modules

KNOWN: dict[str, int] = {}
"""Known duplicates, with the number of classes. Lower the numbers over time; add none."""

SAME_IDEA: dict[str, str] = {}
"""Names that several classes share on purpose, with the reason."""


def duplicates() -> dict[str, list[str]]:
    """Returns class names defined more than once, ignoring leading underscores."""
    places = defaultdict(list)
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(name)
    return {name: found for name, found in sorted(places.items()) if len(found) > 1}


def test_class_names_are_defined_once() -> None:
    found = duplicates()
    assert {
        name: places
        for name, places in found.items()
        if name not in SAME_IDEA and len(places) > KNOWN.get(name, 1)
    } == {}
