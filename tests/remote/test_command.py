"""`localmtp run --server` as a process, with several kinds of servers."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from localmtp.models import resolve
from tests.posix import needs_signals
from tests.remote.loopback import Script, ended, said, serving, usage
from tests.remote.processes import LLAMA_SERVER, free_port, listening, localmtp

NANO = resolve("nano")
QUESTION = "Who are you?"


def test_output_and_report_are_as_for_a_local_model() -> None:
    chunks = (said("Hello"), said(" there"), ended(), usage(7, 3))
    with serving(Script(chunks, models=("org/some-model",))) as script:
        done = localmtp("run", "--server", script.url + "/v1/", QUESTION)
        reported = localmtp("run", "--server", script.url, "some-model", QUESTION, "--json")
    assert (done.returncode, done.stdout) == (0, "Hello there\n"), done.stderr
    assert "drafting unknown: the server does not report it" in done.stderr
    report = json.loads(reported.stdout)
    assert (report["model"], report["text"]) == ("some-model", "Hello there")
    assert (report["finish_reason"], report["completion_tokens"]) == ("stop", 3)
    assert script.asked[1]["model"] == "org/some-model"


@pytest.mark.parametrize("variable", ["LOCALMTP_API_KEY", "OPENAI_API_KEY"])
def test_key_from_flag_or_environment(variable: str) -> None:
    with serving(Script((said("Hi"), ended()), key="secret")) as script:
        without = localmtp("run", "--server", script.url, QUESTION)
        given = localmtp("run", "--server", script.url, QUESTION, "--api-key", "secret")
        found = localmtp("run", "--server", script.url, QUESTION, **{variable: "secret"})
    assert without.returncode == 1
    assert "--api-key" in without.stderr
    assert "Traceback" not in without.stderr
    assert given.stdout == found.stdout == "Hi\n"


def test_lost_connection_prints_the_partial_answer_and_fails() -> None:
    with serving(Script((said("Hel"), said("lo")), done=False)) as script:
        done = localmtp("run", "--server", script.url, QUESTION, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["text"], report["finish_reason"]) == ("Hello", "lost")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@needs_signals
def test_interrupt_aborts_a_silent_server() -> None:
    released = threading.Event()
    with serving(Script((said("Hel"), lambda: released.wait(60)))) as script:
        process = subprocess.Popen(
            [sys.executable, "-m", "localmtp", "run", "--server", script.url, QUESTION],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        first = process.stdout.read(3)
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=60)
        released.set()
    assert first + rest == b"Hel\n"
    assert b"stopped" in told
    assert process.returncode == 130


@pytest.mark.parametrize(
    "flags", [["--threads", "1"], ["--ctx", "512"], ["--drafter", "none"], ["--offline"]]
)
def test_local_flags_are_usage_errors(flags: list[str]) -> None:
    done = localmtp("run", "--server", "http://127.0.0.1:9", QUESTION, *flags)
    assert done.returncode == 2
    assert f"{flags[0]} has no effect with --server" in done.stderr
    assert localmtp("run", "nano", QUESTION, "--api-key", "x").returncode == 2


LENGTHS = ("--temp", "0", "--max-tokens", "40", "--json")


def test_statistics_of_localmtp_serve_match_a_local_run(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    port = free_port()
    command = [sys.executable, "-m", "localmtp", "serve", "nano", "--threads", "1"]
    with listening([*command, "--port", str(port)], port, tmp_path / "log") as url:
        here = localmtp("run", "nano", QUESTION, *LENGTHS, "--n-draft", "3", "--threads", "1")
        there = localmtp("run", "--server", url, QUESTION, *LENGTHS, "--n-draft", "3")
        plain = localmtp("run", "--server", url, QUESTION, *LENGTHS, "--n-draft", "0")
    mine, its, undrafted = (json.loads(done.stdout) for done in (here, there, plain))
    assert its["text"] == mine["text"]
    for name in ("drafted", "accepted", "target_passes", "acceptance_by_position", "drafting"):
        assert its["stats"][name] == mine["stats"][name], name
    assert its["stats"]["time"]["verify_s"] > 0
    assert undrafted["stats"]["drafted"] == 0


@pytest.mark.skipif(not LLAMA_SERVER, reason="LOCALMTP_LLAMA_CPP_BIN names no llama.cpp")
def test_statistics_of_llama_server_match_a_local_run(tmp_path: Path) -> None:
    port = free_port()
    command = [LLAMA_SERVER, "-m", str(NANO.target), "-md", str(NANO.drafter), "-t", "1"]
    command += ["--spec-type", "draft-mtp", "--spec-draft-n-max", "3", "-c", "2048", "-np", "1"]
    with listening([*command, "--port", str(port)], port, tmp_path / "log") as url:
        here = localmtp("run", "nano", QUESTION, *LENGTHS, "--n-draft", "3", "--threads", "1")
        there = localmtp("run", "--server", url, QUESTION, *LENGTHS)
    mine, its = json.loads(here.stdout), json.loads(there.stdout)
    assert its["text"] == mine["text"]
    assert its["prompt_tokens"] == mine["prompt_tokens"]
    assert its["stats"]["drafting"] == "on"
    for name in ("drafted", "accepted", "target_passes"):
        # The last draft may overshoot the end of the answer.
        assert its["stats"][name] == pytest.approx(mine["stats"][name], abs=3), name
