"""Hooks in compiled chat templates: loops, comparisons, lists and joined texts are counted.

The filters `_each`, `_step` and `_made` and the methods `joined` and `made` are those of
`GuardedEnvironment`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, optimizeconst
from jinja2.visitor import NodeTransformer


class CountingHooks(NodeTransformer):
    """Inserts filters that count where the compiler offers no hook."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by Jinja
        """Counts the iterations of loops."""
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_each")
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """Counts comparisons."""
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "_step")
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        """Counts tests."""
        # `x is defined` must see the name itself.
        names = isinstance(node.node, nodes.Name)
        self.generic_visit(node)
        if not names:
            node.node = _filtered(node.node, "_step")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Counts slices."""
        self.generic_visit(node)
        return _filtered(node, "_made") if isinstance(node.arg, nodes.Slice) else node


def _filtered(node: nodes.Node, name: str) -> nodes.Expr:
    assert isinstance(node, nodes.Expr)
    counted = nodes.Filter(node, name, [], [], None, None)
    counted.set_lineno(node.lineno)
    return counted


class CountingGenerator(CodeGenerator):
    """Calls the environment where plain Jinja joins texts and builds lists in place."""

    @optimizeconst
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """Joins texts by the environment."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        """Counts lists."""
        self._made(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        """Counts dictionaries."""
        self._made(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        """Counts tuples that are values."""
        if node.ctx == "load":
            self._made(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _made(self, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        self.write("environment.made(")
        visit(node, frame)
        self.write(")")
