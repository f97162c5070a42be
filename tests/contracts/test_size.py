"""Limits on size: files of 400 lines, short functions, packages of about a dozen modules."""

from __future__ import annotations

import ast
from collections import Counter

from tests.contracts.sources import modules

MOST_LINES = 400
MOST_MODULES = 14
USED_BY_ALL = {
    "__main__",
    "atomic",
    "errors",
    "limits",
    "paths",
    "portability",
    "proxies",
    "unicode",
}
"""Modules of `localmtp` itself; all others are in a package."""

KNOWN: set[str] = set()
"""Known packages with more modules. Remove them once they are divided; add none."""


def is_package(name: str) -> bool:
    return any(other.startswith(f"{name}.") for other in modules())


def test_files_are_short() -> None:
    lengths = {name: tree.body[-1].end_lineno or 0 for name, tree in modules().items() if tree.body}
    assert len(lengths) > 200
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


def test_nine_functions_of_ten_have_at_most_30_lines() -> None:
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[int(len(lengths) * 0.9)] <= 30


def test_packages_have_about_a_dozen_modules() -> None:
    sizes = Counter(name.rpartition(".")[0] for name in modules() if not is_package(name))
    large = {package: n for package, n in sizes.items() if n > MOST_MODULES}
    assert {package: n for package, n in large.items() if package not in KNOWN} == {}
    assert KNOWN - large.keys() == set()


def test_modules_outside_packages_are_used_by_all() -> None:
    loose = {name for name in modules() if name.count(".") == 1 and not is_package(name)}
    assert {name.partition(".")[2] for name in loose} == USED_BY_ALL
