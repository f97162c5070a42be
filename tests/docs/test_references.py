"""Links, modules, files and commands that the documents mention exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from localmtp.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "models/recipe/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_CODE = re.compile(r"^ *```\w*\n.*?^ *```|^ {4}\S.*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_MODULE = re.compile(r"python -m (localmtp[\w.]*)")
_FILE = re.compile(r"`(\w+/[\w/]+\.py)`")
_COMMAND = re.compile(r"(?:^|[`|;] ?|&& )localmtp ([a-z]+)([^`\n#|;]*)", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_relative_links_exist(page: Path) -> None:
    targets = _LINK.findall(page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_modules_exist(page: Path) -> None:
    modules = _MODULE.findall(page.read_text("utf-8"))
    assert [module for module in modules if find_spec(module) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_source_files_exist(page: Path) -> None:
    paths = _FILE.findall(page.read_text("utf-8"))
    roots = (ROOT, ROOT / "localmtp")
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page: Path) -> None:
    context = click.Context(cli)
    unknown = []
    code = "\n".join(_CODE.findall(page.read_text("utf-8")))
    for command, arguments in _COMMAND.findall(code):
        found = cli.get_command(context, command)
        if found is None:
            unknown.append(command)
            continue
        written = re.findall(r"(?<![\w-])(--[a-z][\w-]*)", arguments)
        known = options(found, context) | {"--help", "--debug"}
        unknown += [f"{command} {option}" for option in written if option not in known]
    assert unknown == []


def options(command: click.Command, context: click.Context) -> set[str]:
    """Returns the options of `command` and of the commands below it."""
    found = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            found |= options(below, context) if below else set()
    return found
