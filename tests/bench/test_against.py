"""`localmtp bench compare --against` as a real process, with servers as real processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest

from tests.folders import move_user_folders
from tests.posix import needs_signals
from tests.serve.servers import serving

COMPARE = [
    *(sys.executable, "-m", "localmtp", "bench", "compare", "nano", "--threads", "1"),
    *("--workload", "count", "--workload", "story", "--prompts", "1", "--repeats", "1"),
    *("--max-tokens", "12", "--n-draft", "2,auto"),
]
SERVER = """#!{python}
import os, sys
port = sys.argv[sys.argv.index("--port") + 1]
length = sys.argv.index("--spec-draft-n-max") + 1 if "-md" in sys.argv else 0
drafts = ["--n-draft", sys.argv[length] if length else "0"]
command = ["-m", "localmtp", "serve", "nano", "--threads", "1", "--port", port, *drafts]
os.execv(sys.executable, [sys.executable, *command])
"""
SLOW = """#!{python}
import http.server, os, pathlib, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/health":
            part = pathlib.Path({running!r} + ".part")
            part.write_text(str(os.getpid()))
            part.rename({running!r})
            time.sleep(60)
        self.send_response(200)
        self.end_headers()
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def data_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_user_folders(monkeypatch, tmp_path / "data", "DATA")


def compared(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMPARE, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_server_answers_the_same_prompts() -> None:
    with serving() as server:
        done = compared("--against", server.root, "--sampled", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    found = {(each["contestant"], each["temperature"]): each for each in result["standings"]}
    names = ("localmtp 0", "localmtp 2", "localmtp auto", "server nano")
    assert set(found) == {(name, temperature) for name in names for temperature in (0.0, 1.0)}
    assert all(each["answers"] == 2 and each["tokens_per_s"] > 0 for each in found.values())
    assert found["localmtp 0", 0.0]["acceptance_rate"] is None
    assert found["localmtp 2", 0.0]["tokens_per_pass"] > 1
    # Greedy: the server has the same model, so its answers have as many tokens and drafts pass.
    assert found["server nano", 0.0]["tokens_per_pass"]
    assert {(r["of"], r["to"]) for r in result["ratios"]} == {
        ("localmtp auto", name) for name in names if name != "localmtp auto"
    }


def test_a_single_round_is_compared_with_the_fastest_draft_length() -> None:
    with serving() as server:
        one = ("--against", server.root, "--workload", "story", "--n-draft", "0,3")
        command = [*COMPARE[:8], *one, "--prompts", "1", "--repeats", "1", "--max-tokens", "12"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (head,) = [line for line in lines if "tok/s" in line]
    rows = [line for line in lines if line.startswith(("localmtp ", "server "))]
    assert len(rows) == 3
    fastest = head.rstrip().removesuffix(" is")[-len("localmtp 0") :]
    assert fastest in ("localmtp 0", "localmtp 3")
    assert all(("×" in row) != row.startswith(fastest) for row in rows)


@needs_signals
def test_a_program_is_started_without_and_with_drafts(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(SERVER.format(python=sys.executable))
    program.chmod(0o755)
    done = compared("--against", str(program), "--against-n-draft", "1,2")
    assert done.returncode == 0, done.stderr
    assert "localmtp auto is" in done.stdout
    for name in ("llama-server 0", "llama-server 1", "llama-server 2"):
        assert name in done.stdout


@needs_signals
def test_several_engines_are_named_as_on_the_command_line(tmp_path: Path) -> None:
    programs = [tmp_path / version / "llama-server" for version in ("old", "new")]
    for program in programs:
        program.parent.mkdir()
        program.write_text(SERVER.format(python=sys.executable))
        program.chmod(0o755)
    flags = [flag for program in programs for flag in ("--against", str(program))]
    done = compared(*flags, "--against-n-draft", "1", "--n-draft", "0", "--json")
    assert done.returncode == 0, done.stderr
    found = {each["contestant"] for each in json.loads(done.stdout)["standings"]}
    assert found == {"localmtp 0"} | {f"{program} {n}" for program in programs for n in (0, 1)}


@needs_signals
def test_a_program_ends_with_the_comparison(tmp_path: Path) -> None:
    program, running = tmp_path / "llama-server", tmp_path / "pid"
    program.write_text(SLOW.format(python=sys.executable, running=str(running)))
    program.chmod(0o755)
    with subprocess.Popen([*COMPARE, "--against", str(program)]) as process:
        while not running.exists():
            assert process.poll() is None
            sleep(0.1)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(running.read_text()), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "no-such-program"), "is neither the URL of a server nor a program"),
        (("--against", sys.executable), "does not start"),
        (("--against", "http://127.0.0.1:9"), "cannot connect"),
        (("old.json", "--against", "x"), "--against does not go together with FILE"),
        (("--against", "x", "--against-n-draft", "auto"), "has no automatic draft length"),
        (("--against", "x", "--budget", "3"), "does not go together with --budget"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = compared(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
