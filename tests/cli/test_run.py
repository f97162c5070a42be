"""`localmtp run` as a real process: output, statistics, pipes, and errors of one line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import jsonschema
import pytest

from localmtp.models import resolve
from tests.models.gguf_edit import edited
from tests.posix import needs_signals

NANO = resolve("nano")


def localmtp(
    *arguments: str, stdin: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "localmtp", *arguments],
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
        **options,
    )


def error_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """The error line of a failed run, and its hint."""
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1, done.stderr
    assert done.stdout == b""
    assert lines[0].startswith("error: "), lines
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), lines
    return "\n".join(lines)


RUN = ("run", "nano", "--threads", "1")
QUESTION, ANSWER = "Who are you?", "I am **nano**"


def test_json_has_the_fields_of_the_contract() -> None:
    done = localmtp(*RUN, QUESTION, "--json", "--temp", "0", "--n-draft", "3")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    stats = report["stats"]
    assert report["model"] == report["drafter"] == "nano"
    assert report["text"].startswith(ANSWER)
    assert report["finish_reason"] == "stop"
    assert report["completion_tokens"] == len(report["token_ids"])
    assert stats["decode_tokens_per_s"] == pytest.approx(
        (report["completion_tokens"] - 1) / stats["decode_s"]
    )
    assert stats["acceptance_rate"] == pytest.approx(stats["accepted"] / stats["drafted"])
    assert stats["drafting"] == "on"
    assert set(stats["time"]) == {"draft_s", "verify_s", "sample_s", "other_s"}
    assert stats["load_s"] > 0


SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "run.schema.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        (("--n-draft", "3"), "on"),
        (("--n-draft", "0"), "off"),
        (("--drafter", "none"), "off"),
        (("--drafter", "lookup", "--n-draft", "3", "--max-tokens", "9"), "on"),
    ],
)
def test_json_satisfies_the_documented_schema(flags: tuple[str, ...], state: str) -> None:
    done = localmtp(*RUN, QUESTION, "--json", "--temp", "0", *flags)
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    stats = report["stats"]
    assert set(stats) == set(SCHEMA["properties"]["stats"]["properties"])
    assert set(report) == set(SCHEMA["properties"])
    assert stats["drafting_state"] == state
    assert (stats["drafting_reason"] is None) == (state == "on")
    assert (stats["drafting_note"] is None) == ("lookup" not in flags)
    assert (stats["acceptance_rate"] is None) == (stats["drafted"] == 0)


def test_streams_the_answer_and_puts_statistics_on_stderr() -> None:
    done = localmtp(*RUN, QUESTION, "--temp", "0")
    assert done.stdout.decode().startswith(ANSWER)
    assert done.stdout.endswith(b"\n")
    line = done.stderr.decode()
    assert "decode " in line
    assert "time to first token" in line


def test_copies_of_a_text_without_repeats_say_so() -> None:
    done = localmtp(*RUN, QUESTION, "--temp", "0", "--drafter", "lookup", "--max-tokens", "9")
    assert "drafting on: no repeats to copy yet" in done.stderr.decode()


@pytest.mark.parametrize("arguments", [("run", "nano", "-"), ("run", "nano"), ("run", "-")])
def test_prompt_from_standard_input(arguments: tuple[str, ...]) -> None:
    done = localmtp(*arguments, "--temp", "0", "--threads", "1", stdin=QUESTION.encode())
    assert done.stdout.decode().startswith(ANSWER)


def test_a_lone_argument_is_the_prompt() -> None:
    done = localmtp("run", QUESTION, "--temp", "0", "--threads", "1")
    assert done.stdout.decode().startswith(ANSWER)


def test_json_gives_the_reason_why_drafting_is_off() -> None:
    done = localmtp(*RUN, "Hello", "--drafter", "none", "--json")
    report = json.loads(done.stdout)
    assert report["drafter"] == ""
    assert report["stats"]["drafting"].startswith("off: ")
    assert report["stats"]["drafted"] == 0


def test_raw_feeds_the_prompt_unchanged() -> None:
    done = localmtp(*RUN, "1, 2, 3, 4,", "--raw", "--json", "--temp", "0", "--max-tokens", "4")
    assert json.loads(done.stdout)["prompt_tokens"] < 20


def test_a_closed_pipe_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "localmtp", *RUN, "Count from 1 to 60.", "--n-draft", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(60) == 0
    assert "Traceback" not in said
    assert "rror" not in said


@needs_signals
def test_an_interrupted_answer_is_printed_so_far() -> None:
    arguments = (*RUN, "Tell me a long story.", "--temp", "10", "--top-k", "0", "--top-p", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "localmtp", *arguments, "--n-draft", "16"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    first = process.stdout.read(1)  # generation has begun
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=60)
    assert first
    assert rest.endswith(b"\n")
    assert b"Traceback" not in said
    assert process.returncode == 130
    assert b"stopped" in said


def write_gguf(path: Path, architecture: str) -> Path:
    """A GGUF with a header and one tensor, of any architecture."""
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((8, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class TestBadInput:
    """Errors name the file and what to do."""

    def test_missing_path(self, tmp_path: Path) -> None:
        said = error_of(localmtp("run", str(tmp_path / "none.gguf"), "Hi"))
        assert "none.gguf" in said

    def test_directory(self, tmp_path: Path) -> None:
        said = error_of(localmtp("run", str(tmp_path), "Hi"))
        assert "directory" in said

    def test_not_gguf(self, tmp_path: Path) -> None:
        (tmp_path / "text.gguf").write_text("hello " * 100)
        said = error_of(localmtp("run", str(tmp_path / "text.gguf"), "Hi"))
        assert "text.gguf" in said
        assert "GGUF" in said

    @pytest.mark.parametrize("share", [0.001, 0.3, 0.98])
    def test_truncated(self, tmp_path: Path, share: float) -> None:
        whole = NANO.target.read_bytes()
        (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share)])
        said = error_of(localmtp("run", str(tmp_path / "cut.gguf"), "Hi"))
        assert "cut.gguf" in said

    def test_a_file_without_settings(self, tmp_path: Path) -> None:
        path = write_gguf(tmp_path / "llama.gguf", "llama")
        said = error_of(localmtp("run", str(path), "Hi"))
        assert "llama.gguf" in said
        assert "context_length is missing" in said

    def test_a_model_that_generates_no_text(self, tmp_path: Path) -> None:
        path = write_gguf(tmp_path / "bert.gguf", "bert")
        said = error_of(localmtp("run", str(path), "Hi"))
        assert "bert.gguf is an embedding model" in said

    def test_a_model_without_template_continues_text(self, tmp_path: Path) -> None:
        path = edited(tmp_path / "base.gguf", {"tokenizer.chat_template": None})
        flags = ("--temp", "0", "--max-tokens", "4", "--threads", "1")
        done = localmtp("run", str(path), "Monday, Tuesday,", *flags)
        raw = localmtp("run", str(path), "Monday, Tuesday,", "--raw", *flags)
        assert done.returncode == 0, done.stderr
        assert b"base.gguf has no chat template: it continues texts" in done.stderr
        assert done.stdout == raw.stdout

    def test_drafter_as_target(self) -> None:
        said = error_of(localmtp("run", str(NANO.drafter), "Hi"))
        assert "drafter" in said
        assert "mtp-nano" in said

    def test_target_as_drafter(self) -> None:
        said = error_of(localmtp(*RUN, "Hi", "--drafter", str(NANO.target)))
        assert "nano-Q8_0.gguf" in said

    @pytest.mark.parametrize("fork", ["gemma4_assistant", "gemma4_mtp"])
    def test_drafter_of_a_fork(self, tmp_path: Path, fork: str) -> None:
        path = write_gguf(tmp_path / "mtp-fork.gguf", fork)
        said = error_of(localmtp(*RUN, "Hi", "--drafter", str(path)))
        assert fork in said
        assert "gemma4-assistant" in said

    def test_an_unknown_name_gets_a_suggestion(self) -> None:
        said = error_of(localmtp("run", "gemma4-e4", "Hi", "--offline"))
        assert "gemma4-e4b" in said

    def test_prompt_longer_than_the_context(self) -> None:
        said = error_of(localmtp(*RUN, "word " * 500, "--ctx", "256"))
        assert "256" in said
        assert "--ctx" in said

    def test_context_larger_than_the_models(self) -> None:
        said = error_of(localmtp(*RUN, "Hi", "--ctx", "1000000"))
        assert "1000000" in said
        assert "2048" in said

    @pytest.mark.parametrize("prompt", ["", "   \n"])
    def test_empty_prompt(self, prompt: str) -> None:
        assert "empty" in error_of(localmtp(*RUN, prompt))
        assert "empty" in error_of(localmtp(*RUN, "-", stdin=prompt.encode()))

    def test_invalid_utf8(self) -> None:
        assert "UTF-8" in error_of(localmtp(*RUN, "-", stdin=b"caf\xe9 ol\xe9"))

    def test_wrong_usage_exits_with_2(self) -> None:
        for arguments in (["--n-draft", "17"], ["--n-draft", "many"], ["--temp", "-1"]):
            assert localmtp(*RUN, "Hi", *arguments).returncode == 2

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        done = localmtp("run", str(tmp_path / "none.gguf"), "Hi", "--debug")
        assert b"Traceback" in done.stderr
        assert done.returncode == 1


def test_characters_outside_the_locale_are_replaced() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = localmtp(*RUN, "Repeat this: café 🙂", "--temp", "0", env=environment)
    assert done.returncode == 0, done.stderr


def test_escape_sequences_in_a_name_are_made_visible() -> None:
    said = error_of(localmtp("run", "\x1b[31mred.gguf", "Hello"))
    assert "\x1b" not in said
    assert "\\x1b[31mred.gguf" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--no-think", "--think-budget", "8"), "leave out --no-think"),
        (("--raw", "--think"), "--think has no effect with --raw"),
        (("--dry-base", "2"), "--dry-base needs --dry"),
    ],
)
def test_flags_without_effect_are_refused(arguments: tuple[str, ...], words: str) -> None:
    done = localmtp(*RUN, QUESTION, *arguments)
    assert done.returncode == 2
    assert words in done.stderr.decode()


def test_a_missing_drafter_names_the_choices() -> None:
    assert "`lookup`" in error_of(localmtp(*RUN, QUESTION, "--drafter", "lokup"))


def test_statistics_leave_out_what_was_not_measured() -> None:
    done = localmtp(*RUN, QUESTION, "--max-tokens", "1")
    assert done.stderr.decode().startswith("1 token · time to first token")
