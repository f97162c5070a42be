"""The real program in a pseudo-terminal."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TextIO, cast

import pytest
from textual.drivers._writer_thread import MAX_QUEUED_WRITES, WriterThread

from localmtp.history import History
from localmtp.tui.terminal_output import TerminalOutput
from tests.hub import Hub
from tests.pairs import TINY, write_pair
from tests.rpc import FOLDER, needs_rpc, rpc_server

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

import fcntl
import pty
import termios

PATIENCE_S = 90.0
ENTER_ALTERNATE_SCREEN = b"\x1b[?1049h"
LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"


class Terminal:
    """Runs `localmtp` on a pseudo-terminal of 100 by 30 cells.

    Args:
        arguments: of `localmtp`.
        home: folder for its files.
        environment: additional variables.
        controls: whether the terminal is its controlling terminal, so that closing it sends SIGHUP.
    """

    def __init__(
        self, arguments: list[str], home: Path, environment: dict[str, str], *, controls: bool
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        places = {"XDG_DATA_HOME": str(home), "XDG_STATE_HOME": str(home), "HF_HOME": str(home)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "localmtp", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | places | environment | {"TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if controls else None,
        )
        os.close(slave)
        self.output = b""

    def until(self, expected: bytes) -> None:
        """Reads until `expected` was printed."""
        deadline = monotonic() + PATIENCE_S
        while expected not in self.output:
            assert monotonic() < deadline, f"no {expected!r} in: {self.output[-2000:]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += self._read()

    def type(self, keys: bytes) -> None:
        """Sends keys and discards the output so far."""
        self.output = b""
        os.write(self.master, keys)

    def ended(self) -> int:
        """Reads to the end and returns the exit code."""
        deadline = monotonic() + PATIENCE_S
        while self.process.poll() is None and monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += self._read()
        return self.process.wait(1)

    def _read(self) -> bytes:
        try:
            return os.read(self.master, 65536)
        except OSError:
            # On Linux, reading fails once the other end is closed.
            return b""


@contextmanager
def terminal(
    home: Path, *arguments: str, controls: bool = True, **environment: str
) -> Iterator[Terminal]:
    opened = Terminal(list(arguments), home, environment, controls=controls)
    try:
        yield opened
    finally:
        if opened.process.poll() is None:
            opened.process.kill()
            opened.process.wait()


CHAT = ("chat", "nano", "--offline", "--max-tokens", "8", "--threads", "1", "--temp", "0")


def test_a_complete_chat(tmp_path: Path) -> None:
    with terminal(tmp_path, *CHAT) as chat:
        chat.until(b"drafting on")
        chat.type(b"Hello\x0athere\r")
        chat.until(b"time to first token")
        chat.type(b"\x11")
        assert chat.ended() == 0
        assert LEAVE_ALTERNATE_SCREEN in chat.output
    history = History(tmp_path / "localmtp" / "history.sqlite3")
    (saved,) = history.find()
    question, answer = history.load(saved.id)
    assert question.text == "Hello\nthere"
    assert answer.text


@needs_rpc
def test_a_lost_rpc_server_restores_the_terminal_and_keeps_the_conversation(tmp_path: Path) -> None:
    with (
        rpc_server() as (endpoint, server),
        terminal(tmp_path, *CHAT, "--rpc", endpoint, LLAMA_CPP_LIB_PATH=str(FOLDER)) as chat,
    ):
        before = termios.tcgetattr(chat.master)
        chat.until(b"drafting on")
        chat.type(b"Hello\r")
        chat.until(b"time to first token")
        server.kill()
        chat.type(b"And again\r")
        assert chat.ended() == 1
        shell_output = chat.output.rpartition(LEAVE_ALTERNATE_SCREEN)[2]
        assert f"error: an RPC server was lost: {endpoint}".encode() in shell_output
        assert termios.tcgetattr(chat.master) == before
    history = History(tmp_path / "localmtp" / "history.sqlite3")
    (saved,) = history.find()
    question, answer, *_ = history.load(saved.id)
    assert question.text == "Hello"
    assert answer.text


@pytest.mark.parametrize("controls", [True, False])
def test_closing_the_terminal_ends_the_process(tmp_path: Path, controls: bool) -> None:
    with terminal(tmp_path, *CHAT, controls=controls) as chat:
        chat.until(b"drafting on")
        os.close(chat.master)
        assert chat.process.wait(PATIENCE_S) is not None


def test_output_to_a_closed_terminal_is_discarded() -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as file:
        os.close(master)
        thread = WriterThread(cast(TextIO, TerminalOutput(file)))
        thread.start()
        for _ in range(2 * MAX_QUEUED_WRITES):
            thread.write("text")
        thread.stop()
        assert not thread.is_alive()
        # What is left in the buffer of the file cannot be written by its closing either.
        with suppress(OSError):
            file.close()


def test_unsent_text_is_restored_after_the_terminal_was_closed(tmp_path: Path) -> None:
    with terminal(tmp_path, *CHAT) as chat:
        chat.until(b"drafting on")
        chat.type(b"precious")
        chat.until(b"precious")
        os.close(chat.master)
        chat.process.wait(PATIENCE_S)
    with terminal(tmp_path, *CHAT) as chat:
        chat.until(b"restored what you had not sent")
        chat.until(b"precious")
        chat.type(b"\x11")
        assert chat.ended() == 0


def test_writing_a_message_in_an_editor(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho 'and from the editor' >> \"$1\"\n")
    editor.chmod(0o755)
    with terminal(tmp_path, *CHAT, VISUAL=str(editor)) as chat:
        chat.until(b"drafting on")
        chat.type(b"from the prompt\x07")
        chat.until(b"and from the editor")
        chat.until(b"from the prompt")
        chat.type(b"\x11")
        assert chat.ended() == 0


def test_a_missing_editor_is_reported_and_the_chat_continues(tmp_path: Path) -> None:
    with terminal(tmp_path, *CHAT, VISUAL="no-such-editor") as chat:
        chat.until(b"drafting on")
        chat.type(b"unsent\x07")
        chat.until(b"cannot open the editor")
        chat.type(b" text")
        chat.until(b"text")
        chat.type(b"\x11")
        assert chat.ended() == 0


def test_text_typed_before_the_screen_opens_is_in_the_prompt(tmp_path: Path) -> None:
    with terminal(tmp_path, *CHAT) as chat:
        chat.type(b"typed early")
        chat.until(ENTER_ALTERNATE_SCREEN)
        chat.output = chat.output.partition(ENTER_ALTERNATE_SCREEN)[2]
        chat.until(b"typed early")
        chat.type(b"\x11")
        assert chat.ended() == 0


@pytest.mark.parametrize("stalls", [0, 1])
def test_quitting_during_a_download(tmp_path: Path, stalls: int) -> None:
    write_pair(TINY["dense"], tmp_path / "tiny.gguf", tmp_path / "mtp-tiny.gguf")
    large = (tmp_path / "tiny.gguf").read_bytes() + bytes(8 << 20)
    hub = Hub()
    hub.publish("someone/tiny", {"tiny-Q8_0.gguf": large})
    hub.faults.bytes_per_second, hub.faults.stalls = 1e6, stalls
    with (
        hub.running(),
        terminal(tmp_path, "chat", "someone/tiny", HF_ENDPOINT=hub.endpoint) as chat,
    ):
        chat.until(b"downloading")
        chat.type(b"\x11")
        assert chat.ended() == 0
        assert LEAVE_ALTERNATE_SCREEN in chat.output and b"Traceback" not in chat.output


def test_quitting_during_a_race(tmp_path: Path) -> None:
    with terminal(tmp_path, "chat", "nano", "--threads", "1") as chat:
        chat.until(b"drafting on")
        chat.type(b"/race Write a long story.\r")
        chat.until(b"drafting off")
        chat.type(b"\x11")
        assert chat.ended() == 0
        assert LEAVE_ALTERNATE_SCREEN in chat.output and b"Traceback" not in chat.output


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no-such-model", b"unknown model"), ("missing.gguf", b"no such file: missing.gguf")],
)
def test_an_unknown_model_is_an_error_in_the_shell(
    tmp_path: Path, name: str, reason: bytes
) -> None:
    with terminal(tmp_path, "chat", name) as chat:
        assert chat.ended() == 1
        assert reason in chat.output
        assert ENTER_ALTERNATE_SCREEN not in chat.output and b"Traceback" not in chat.output


def test_a_broken_model_is_shown_and_sets_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with terminal(tmp_path, "chat", str(tmp_path / "broken.gguf")) as chat:
        chat.until("✕".encode())
        chat.type(b"\x11")
        assert chat.ended() == 1
        # The screen wraps a long path; in the shell, a hint follows the error.
        assert b"broken.gguf" in b"".join(chat.output.splitlines()[-2:])
        assert b"error" in chat.output and b"Traceback" not in chat.output
