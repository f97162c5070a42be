"""The process with the model, as seen by its parent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Pipe
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.isolation.messages import (
    AnswerEvents,
    Close,
    MediaMeasured,
    OpenRequest,
    Request,
    Response,
    SessionStatus,
)
from localmtp.portability import how_it_ended, spawn, was_killed

if TYPE_CHECKING:
    from localmtp.portability import Channel

CLOSING_S = 3.0
"""Time to finish the current pass and save the pacing data; then the process is killed."""

_STDERR_TAIL = 4096
"""Bytes at the end of standard error that are retained, and searched for the cause of a crash."""

_CAUSE = re.compile(r"GGML_ASSERT|\w*Error\b|error:|what\(\)|failed", re.IGNORECASE)
"""Pattern of lines of standard error that name a cause."""

_RELOAD = "/model NAME loads it again, or another model"


class ProcessLostError(LocalmtpError):
    """The process with the model is gone."""


class ModelProcess:
    """A child process with a model; exits when this process does, even if it is killed.

    `send` may be called from any thread, `receive` from one at a time.
    """

    def __init__(self) -> None:
        try:
            self._connection, self._process, stderr = _started()
        except OSError as error:
            raise LocalmtpError(
                f"cannot start a process for the model: {error.strerror}",
                hint="close other programs, or raise the limits of the system",
            ) from error
        self.status: SessionStatus | None = None
        """The last one received."""
        self.is_over = False
        self._unresponsive = False
        self._responses: SimpleQueue[Response | None] = SimpleQueue()
        self._measured: SimpleQueue[MediaMeasured | None] = SimpleQueue()
        self._sending = Lock()
        self._stderr = b""
        """The end of it."""
        self._reader = Thread(target=self._read_stderr, args=(stderr,), daemon=True)
        self._reader.start()
        Thread(target=self._listen, daemon=True).start()

    def send(self, request: OpenRequest | Request) -> None:
        """Sends a request; if the process is gone, `receive` raises."""
        with self._sending, suppress(OSError):
            self._connection.send(request)

    def receive(self, timeout_s: float | None = None) -> Response | None:
        """Returns the next response, or None after `timeout_s` seconds.

        Raises:
            ProcessLostError: the process is gone.
        """
        try:
            response = self._responses.get(timeout=timeout_s)
        except Empty:
            return None
        if response is None:
            self._responses.put(None)
            raise self._lost()
        return response

    def receive_measured(self) -> MediaMeasured:
        """Returns the next answer to `MeasureMedia`; may be called while others `receive`.

        Raises:
            ProcessLostError: the process is gone.
        """
        measured = self._measured.get()
        if measured is None:
            self._measured.put(None)
            raise self._lost()
        return measured

    def end(self, patience_s: float = CLOSING_S) -> None:
        """Asks the process to exit and waits; kills it after `patience_s` seconds.

        Args:
            patience_s: 0 kills it immediately.
        """
        if patience_s:
            self.send(Close())
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        self._process.kill()
        self._process.wait()

    def kill_unresponsive(self) -> None:
        """Kills a process that no longer handles requests."""
        self._unresponsive = True
        self._process.kill()

    def _listen(self) -> None:
        try:
            while True:
                response: Response = self._connection.recv()
                if isinstance(response, SessionStatus):
                    self.status = response
                    continue
                if isinstance(response, MediaMeasured):
                    self._measured.put(response)
                    continue
                if isinstance(response, AnswerEvents):
                    self.status = response.status
                self._responses.put(response)
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSING_S)
        except Exception:  # noqa: BLE001 - of unpickling: it sent what cannot be read
            pass
        if self._process.poll() is None:
            self.kill_unresponsive()
        self._process.wait()
        self._reader.join(CLOSING_S)
        self.is_over = True
        self._responses.put(None)
        self._measured.put(None)

    def _read_stderr(self, stderr: int) -> None:
        """Retains the end of standard error; a child that floods it needs no memory or disk."""
        with open(stderr, "rb", buffering=0) as file, suppress(OSError):
            while data := file.read(1 << 16):
                self._stderr = (self._stderr + data)[-_STDERR_TAIL:]

    def _lost(self) -> ProcessLostError:
        if self._unresponsive:
            return ProcessLostError(
                "the model's process did not respond and was ended", hint=_RELOAD
            )
        code = self._process.returncode
        if was_killed(code):
            return ProcessLostError(
                "the system killed the model's process, probably because memory ran out",
                hint=f"{_RELOAD}; a smaller --ctx needs less memory",
            )
        lines = self._stderr.decode(errors="replace").splitlines()
        written = [line.strip() for line in reversed(lines) if line.strip()]
        cause = next(filter(_CAUSE.search, written), written[0] if written else "")
        reason = f": {cause}" if cause else ""
        how = how_it_ended(code)
        return ProcessLostError(f"the model's process ended ({how}){reason}", hint=_RELOAD)


def _started() -> tuple[Channel, subprocess.Popen[bytes], int]:
    """Starts a child.

    Returns:
        The connection to it, the process, and a file descriptor to read its standard error from.

    Raises:
        OSError: there are too many processes or open files, or too little memory.
    """
    connection, other = Pipe()
    try:
        stderr, child_stderr = os.pipe()
        try:
            return connection, _spawn(other, child_stderr), stderr
        except BaseException:
            os.close(stderr)
            raise
        finally:
            os.close(child_stderr)
    except BaseException:
        connection.close()
        raise
    finally:
        other.close()


def _spawn(connection: Channel, stderr: int) -> subprocess.Popen[bytes]:
    """Starts the child with its end of a connection.

    `multiprocessing` is not used: its helper process needs a standard error with a descriptor,
    which a full-screen program does not have.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
    code = "from localmtp.isolation.child import main; main({channel})"
    return spawn(
        # -P keeps modules in the working directory from shadowing installed ones.
        ["-P", "-c", code],
        connection,
        stderr=stderr,
        # A backtrace takes seconds, and hides the assertion that failed.
        environment=os.environ | {"PYTHONPATH": path, "GGML_NO_BACKTRACE": "1"},
    )
