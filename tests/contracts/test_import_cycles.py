"""There are no import cycles, deferred imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.contracts.sources import modules

KNOWN: set[frozenset[str]] = set()
"""Known cycles. Remove them once they are broken; add none."""


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields module and name of every import except those for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        else:
            waiting += ast.iter_child_nodes(node)


def graph() -> dict[str, set[str]]:
    """Returns the modules that each module imports, including packages imported by name."""
    known = modules()
    return {
        name: {
            inner if (inner := f"{module}.{imported}") in known else module
            for module, imported in _imports(tree)
        }
        & known.keys()
        for name, tree in known.items()
    }


def cycles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """Returns sets of modules that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(edges[start])
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += edges[name]
        return seen

    reach = {name: reached(name) for name in edges}
    return {
        frozenset(other for other in reach[name] if name in reach[other])
        for name in edges
        if name in reach[name]
    }


def test_a_cycle_is_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert cycles(edges) == {frozenset({"b", "c"}), frozenset({"d"})}
    tree = ast.parse("if TYPE_CHECKING:\n import a\nelse:\n import b\ndef f():\n from c import d")
    assert set(_imports(tree)) == {("b", ""), ("c", "d")}


def test_there_are_no_import_cycles() -> None:
    assert cycles(graph()) - KNOWN == set()
