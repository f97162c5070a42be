"""No module imports itself through others, deferred imports counted."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.contracts.sources import modules

KNOWN: set[frozenset[str]] = set()
"""Circles not yet broken. Remove them here as they go; add none."""


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Module and name of every import that runs; those for type checkers alone do not."""
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
    """The modules that each module imports; a package counts where it is imported itself."""
    known = modules()
    return {
        name: {
            inner if (inner := f"{module}.{imported}") in known else module
            for module, imported in _imports(tree)
        }
        & known.keys()
        for name, tree in known.items()
    }


def circles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of modules that reach each other."""

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


def test_a_circle_is_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert circles(edges) == {frozenset({"b", "c"}), frozenset({"d"})}
    tree = ast.parse("if TYPE_CHECKING:\n import a\nelse:\n import b\ndef f():\n from c import d")
    assert set(_imports(tree)) == {("b", ""), ("c", "d")}


def test_no_module_imports_itself_through_others() -> None:
    assert circles(graph()) - KNOWN == set()
