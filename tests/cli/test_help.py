"""The help of every command, as the terminal shows it."""

import click
import pytest
from click.testing import CliRunner

from localmtp.cli import cli

COMMANDS = cli.list_commands(click.Context(cli))


def test_no_summary_of_a_command_is_cut() -> None:
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    assert "..." not in shown.partition("Commands:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_have_short_placeholders(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    assert "RANGE" not in shown
    assert "x>" not in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_separate_indented_lines(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    description = shown.partition("Options:")[0]
    assert "\\b" not in description
    starts = [line for line in description.splitlines() if "  localmtp " in line]
    assert all(line.startswith(" " * 6 + "localmtp ") for line in starts)
    assert not any(" localmtp " in line.strip() for line in starts if ";" not in line)
