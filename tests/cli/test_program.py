"""The program as a whole: help, completion, suggestions, quiet, and unwritable output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.programs import localmtp

RUN = ("run", "nano", "Count from 1 to 9.", "--threads", "1", "--temp", "0", "--max-tokens", "8")


@pytest.mark.parametrize("names", [("run",), ("bench",), ("bench", "synthetic")])
def test_help_is_the_help_of_the_command(names: tuple[str, ...]) -> None:
    assert localmtp("help", *names).stdout == localmtp(*names, "--help").stdout


def test_help_of_an_unknown_command_is_wrong_usage() -> None:
    assert localmtp("help", "nothing").returncode == 2


@pytest.mark.parametrize(
    ("typed", "suggested"), [("cht", "chat"), ("sevre", "serve"), ("brench", "bench")]
)
def test_a_mistyped_command_is_suggested(typed: str, suggested: str) -> None:
    done = localmtp(typed)
    assert done.returncode == 2
    assert f"Did you mean '{suggested}'?" in done.stderr


def test_a_mistyped_subcommand_is_suggested() -> None:
    done = localmtp("bench", "histroy", "nano")
    assert done.returncode == 2
    assert "Did you mean 'history'?" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    done = localmtp("completion", shell)
    assert done.returncode == 0, done.stderr
    assert "_LOCALMTP_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [("localmtp ver", "verify"), ("localmtp bench syn", "synthetic"), ("localmtp run na", "nano")],
)
def test_commands_and_models_are_completed(words: str, expected: str) -> None:
    environment = {
        "_LOCALMTP_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    assert f"plain,{expected}" in localmtp(env=os.environ | environment).stdout


def test_quiet_prints_the_answer_alone() -> None:
    done = localmtp(*RUN, "--quiet")
    assert done.returncode == 0
    assert done.stdout.startswith("1, 2")
    assert done.stderr == ""
    assert localmtp(*RUN).stderr != ""


def test_quiet_prints_errors() -> None:
    assert localmtp("--quiet", "run", "none.gguf", "Hi").stderr.startswith("error: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [RUN, (*RUN, "--json"), ("list", "--json"), ("help",)])
def test_a_full_disk_behind_standard_output_is_an_error(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "localmtp", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith("error: cannot write to standard output")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_closed_standard_output_is_an_error() -> None:
    shell = ["sh", "-c", '"$0" -m localmtp "$@" >&-', sys.executable, *RUN]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "error: standard output is closed" in done.stderr


@pytest.mark.parametrize("count", ["513", "100000"])
def test_more_threads_than_possible_are_wrong_usage(count: str) -> None:
    assert localmtp("run", "nano", "Hi", "--threads", count).returncode == 2


def test_nano_cannot_be_deleted() -> None:
    done = localmtp("rm", "nano", "--yes")
    assert done.returncode == 1
    assert "ships with localmtp" in done.stderr
