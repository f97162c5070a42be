"""The process with the model, as its parent sees it."""

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
from localmtp.isolation.messages import Close, Open, Passed, Report, Request, Status
from localmtp.portability import how_it_ended, spawn, was_killed

if TYPE_CHECKING:
    from localmtp.portability import Channel

CLOSING_S = 3.0
"""For keeping what was learned, after the pass that goes on. One that takes longer is given up."""

_LAST_WORDS = 4096
"""Bytes at the end of the standard error where the cause of an end may stand."""


class LostError(LocalmtpError):
    """The process with the model is gone."""


class ModelProcess:
    """A child that answers; it ends with this process, however that ends.

    `send` may be called from any thread, `receive` from one at a time.
    """

    def __init__(self) -> None:
        self._connection, other = Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        try:
            self._process = _spawn(other, self._stderr.fileno())
        finally:
            other.close()
        self.status: Status | None = None
        """The latest."""
        self.is_over = False
        self._reports: SimpleQueue[Report | None] = SimpleQueue()
        self._sending = Lock()
        Thread(target=self._listen, daemon=True).start()

    def send(self, request: Open | Request) -> None:
        """Ask for something; a child that is gone is told by `receive`."""
        with self._sending, suppress(OSError):
            self._connection.send(request)

    def receive(self, timeout_s: float | None = None) -> Report | None:
        """The next report; None if there was none in time.

        Raises:
            LostError: there will be none any more.
        """
        try:
            report = self._reports.get(timeout=timeout_s)
        except Empty:
            return None
        if report is None:
            self._reports.put(None)
            raise self._lost()
        return report

    def end(self, patience_s: float = CLOSING_S) -> None:
        """Let it finish, or end it if that takes too long; blocking.

        Args:
            patience_s: 0 to end it at once.
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
                report: Report = self._connection.recv()
                if isinstance(report, Status):
                    self.status = report
                    continue
                if isinstance(report, Passed):
                    self.status = report.status
                self._reports.put(report)
        self._process.wait()
        self.is_over = True
        self._reports.put(None)

    def _lost(self) -> LostError:
        code = self._process.returncode
        again = "/model NAME loads it again, or another"
        if was_killed(code):
            return LostError(
                "the system ended the model's process, as it does when memory runs out",
                hint=f"{again}; less --ctx needs less",
            )
        self._stderr.seek(max(0, os.fstat(self._stderr.fileno()).st_size - _LAST_WORDS))
        said = self._stderr.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        why = f": {last}" if last else ""
        return LostError(f"the model's process ended ({how_it_ended(code)}){why}", hint=again)


def _spawn(connection: Channel, stderr: int) -> subprocess.Popen[bytes]:
    """Start the child on its end of a connection.

    Not by `multiprocessing`, whose helper process would need a standard error with a descriptor,
    which a full-screen program does not have.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
    code = "from localmtp.isolation.child import main; main({channel})"
    return spawn(
        # -P: nothing is imported from where the user happens to be, unless it is from there here.
        ["-P", "-c", code],
        connection,
        stderr=stderr,
        environment=os.environ | {"PYTHONPATH": path},
    )
