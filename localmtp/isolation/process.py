"""The process with the model, as seen by its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Pipe
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.isolation.messages import (
    AnswerEvents,
    Close,
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
"""Bytes at the end of standard error that are searched for the cause of a crash."""


class ProcessLostError(LocalmtpError):
    """The process with the model is gone."""


class ModelProcess:
    """A child process with a model; exits when this process does, even if it is killed.

    `send` may be called from any thread, `receive` from one at a time.
    """

    def __init__(self) -> None:
        self._connection, other = Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        try:
            self._process = _spawn(other, self._stderr.fileno())
        finally:
            other.close()
        self.status: SessionStatus | None = None
        """The last one received."""
        self.is_over = False
        self._responses: SimpleQueue[Response | None] = SimpleQueue()
        self._sending = Lock()
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

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                response: Response = self._connection.recv()
                if isinstance(response, SessionStatus):
                    self.status = response
                    continue
                if isinstance(response, AnswerEvents):
                    self.status = response.status
                self._responses.put(response)
        self._process.wait()
        self.is_over = True
        self._responses.put(None)

    def _lost(self) -> ProcessLostError:
        code = self._process.returncode
        reload = "/model NAME loads it again, or another model"
        if was_killed(code):
            return ProcessLostError(
                "the system killed the model's process, probably because memory ran out",
                hint=f"{reload}; a smaller --ctx needs less memory",
            )
        self._stderr.seek(max(0, os.fstat(self._stderr.fileno()).st_size - _STDERR_TAIL))
        lines = self._stderr.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        reason = f": {last}" if last else ""
        how = how_it_ended(code)
        return ProcessLostError(f"the model's process ended ({how}){reason}", hint=reload)


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
        environment=os.environ | {"PYTHONPATH": path},
    )
