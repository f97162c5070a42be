"""The documentation site: strict build, complete command reference, no requests to other hosts."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from localmtp.cli import cli

ROOT = Path(__file__).parents[2]
_HEADING = re.compile(r'<h[1-6] id="([^"]+)"')
_EXTERNAL = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    build = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return folder / "site"


def contexts(command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    """Yields a context for `command` and for every command below it."""
    name = "localmtp" if parent is None else command.name
    context = click.Context(command, parent, name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from contexts(below, context)


def sections(page: Path) -> dict[str, str]:
    """Returns the text below each heading of `page`, by the heading's id."""
    ids_and_bodies = _HEADING.split(page.read_text("utf-8"))[1:]
    bodies = (html.unescape(re.sub(r"<[^>]+>", "", body)) for body in ids_and_bodies[1::2])
    return dict(zip(ids_and_bodies[::2], bodies, strict=True))


def test_reference_has_every_command_with_the_options_of_its_help(site: Path) -> None:
    reference = sections(site / "commands.html")
    found = list(contexts(cli, None))
    assert len(found) > 10
    for context in found:
        text = reference[context.command_path.replace(" ", "-")]
        formatter = context.make_formatter()
        click.Command.format_options(context.command, context, formatter)
        assert formatter.getvalue().partition("\n")[2].strip() in text


def test_examples_are_code(site: Path) -> None:
    page = (site / "commands.html").read_text("utf-8")
    text = html.unescape(re.sub(r"<pre>.*?</pre>|<[^>]+>", "", page, flags=re.DOTALL))
    assert [
        line for line in text.splitlines() if re.match(r"\s*localmtp [a-z]+ \S*[./\"-]", line)
    ] == []


def test_reference_has_no_command_that_does_not_exist(site: Path) -> None:
    paths = {context.command_path.replace(" ", "-") for context in contexts(cli, None)}
    assert sections(site / "commands.html").keys() - {"commands"} == paths


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    assert [hit for page in pages for hit in _EXTERNAL.findall(page.read_text("utf-8"))] == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text("utf-8")
    pages = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    assert {p for p in pages - {"404.html", "index.html"} if f'href="./{p}"' not in home} == set()
