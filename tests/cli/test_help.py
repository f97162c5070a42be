"""The help of every command, as the terminal shows it."""

import click
import pytest
from click.testing import CliRunner

from localmtp.cli import cli

COMMANDS = cli.list_commands(click.Context(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_separate_indented_lines(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    description = shown.partition("Options:")[0]
    assert "\\b" not in description
    starts = [line for line in description.splitlines() if "  localmtp " in line]
    assert all(line.startswith(" " * 6 + "localmtp ") for line in starts)
    assert not any(" localmtp " in line.strip() for line in starts if ";" not in line)
