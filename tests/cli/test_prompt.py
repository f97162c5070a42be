"""The prompt of `run`: arguments, `--model`, standard input, and prompts that look like options."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.programs import localmtp

FLAGS = ("--threads", "1", "--temp", "0", "--max-tokens", "8", "--json")
QUESTION = b"Count from 1 to 3."


def report(*arguments: str, stdin: bytes = b"") -> dict[str, Any]:
    done = localmtp("run", *arguments, *FLAGS, stdin=stdin)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def test_standard_input_follows_the_prompt() -> None:
    both = report("nano", "Question:", stdin=QUESTION)
    assert both["prompt_tokens"] > report("nano", "Question:")["prompt_tokens"]
    assert (
        both["prompt_tokens"]
        == report("nano", f"Question:\n\n{QUESTION.decode()}")["prompt_tokens"]
    )


def test_a_file_follows_the_prompt(tmp_path: Path) -> None:
    file = tmp_path / "question.txt"
    file.write_bytes(QUESTION)
    with file.open() as opened:
        done = subprocess.run(
            [sys.executable, "-m", "localmtp", "run", "nano", "Question:", *FLAGS],
            stdin=opened,
            capture_output=True,
            timeout=60,
            check=True,
        )
    expected = report("nano", "Question:", stdin=QUESTION)
    assert json.loads(done.stdout)["prompt_tokens"] == expected["prompt_tokens"]


def test_the_model_can_be_an_option() -> None:
    assert report("-m", "nano", "Hello")["model"] == "nano"
    assert report("--model", "nano", stdin=QUESTION)["text"].startswith("1, 2")
    assert localmtp("run", "-m", "nano", "nano", "Hello").returncode == 2


@pytest.mark.parametrize("prompt", ["- one item", "-5 + 3 = ?", "--verbose is what?"])
def test_a_prompt_that_looks_like_an_option_is_explained(prompt: str) -> None:
    done = localmtp("run", "nano", prompt)
    assert done.returncode == 2
    assert "behind `--`" in done.stderr
    answered = localmtp("run", "nano", *FLAGS, "--", prompt)
    assert answered.returncode == 0, answered.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be polled on Windows")
def test_a_pipe_that_stays_open_is_named() -> None:
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "localmtp", "run", "nano", "Hello", *FLAGS],
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(reading)
        assert process.stderr is not None
        assert "reading standard input" in process.stderr.readline()
        os.close(writing)
        process.communicate(timeout=60)
    assert process.returncode == 0
