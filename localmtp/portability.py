"""Differences between operating systems: processes, signals, terminals, standard streams.

Everything else in the package is written for all of them. `mypy --platform` checks each branch.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TextIO

if TYPE_CHECKING:
    # Every command imports this module: what takes long to import is imported where it is used.
    import subprocess
    from asyncio import AbstractEventLoop
    from multiprocessing import connection
    from pathlib import Path

    if sys.platform == "win32":
        Channel = connection.PipeConnection
    else:
        Channel = connection.Connection


_STDERR = 2
"""Descriptor of standard error."""


class DeferredInterrupt:
    """A context at whose end SIGINT is handled; until then it is only noted.

    Python runs signal handlers at any line of the main thread, also in callbacks from C and from
    the garbage collector. An exception there cannot propagate: it is printed, and Ctrl-C is lost.
    Used around imports, and around calls of libllama that call back.

    Nothing changes outside the main thread, and where SIGINT is ignored.
    """

    def __init__(self) -> None:
        self.requested = False
        """True once SIGINT has arrived."""
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if handler not in (None, signal.SIG_IGN):
                self._previous = handler
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is None:
            return
        signal.signal(signal.SIGINT, self._previous)
        if self.requested:
            signal.raise_signal(signal.SIGINT)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True


def spawn(
    arguments: Sequence[str], channel: Channel, *, stderr: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a Python process that inherits one end of a channel.

    The process is detached from the terminal: it receives neither Ctrl-C nor the hang-up, which
    are for its parent to handle. Where the parent ends, its end of the channel is closed.

    Args:
        arguments: those of the interpreter, each with `{channel}` replaced by the channel's number
            in the child, for `inherited`.
        channel: the child's end; the caller closes it afterwards.
        stderr: file descriptor of the child's standard error.
        environment: all of the child's environment variables.
    """
    import subprocess

    number = channel.fileno()
    command = [sys.executable, *(each.replace("{channel}", str(number)) for each in arguments)]
    if sys.platform == "win32":
        os.set_handle_inheritable(number, True)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            startupinfo=subprocess.STARTUPINFO(lpAttributeList={"handle_list": [number]}),
            creationflags=subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=environment,
        pass_fds=[number],
        start_new_session=True,
    )


def inherited(number: int) -> Channel:
    """The channel that `spawn` passed to this process."""
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection(number)
    from multiprocessing.connection import Connection

    return Connection(number)


def try_lock(file: BinaryIO) -> bool:
    """Lock an open file exclusively, without waiting; False if another process holds the lock.

    The lock ends when the file is closed or the process ends.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_locked_folder(folder: Path, lock: BinaryIO) -> None:
    """Remove a folder, and release the lock on a file in it.

    POSIX removes the file before the lock ends, so that no other process locks it in between;
    Windows cannot remove an open file.
    """
    import shutil

    if sys.platform != "win32":
        shutil.rmtree(folder, ignore_errors=True)
    lock.close()
    if sys.platform == "win32":
        shutil.rmtree(folder, ignore_errors=True)


def was_killed(code: int) -> bool:
    """Whether a process was ended by SIGKILL, as Linux and macOS do when memory runs out."""
    return sys.platform != "win32" and code == -signal.SIGKILL


def how_it_ended(code: int) -> str:
    """The exit code of a `Popen` as `signal NAME` or `exit code N`; in hexadecimal if large."""
    if code < 0 and sys.platform != "win32":
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    # Windows: the code of an exception, such as 0xC0000005, an access violation.
    return f"exit code {code:#010X}" if code > 0xFFFF else f"exit code {code}"


def limit_cpu_time(seconds: int) -> None:
    """Has the system end this process after it has used CPU time; does nothing on Windows.

    Args:
        seconds: sum over all threads.
    """
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        if hard != resource.RLIM_INFINITY:
            seconds = min(seconds, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def on_termination(loop: AbstractEventLoop, leave: Callable[[], object]) -> None:
    """Call `leave` in the loop when the process is asked to end or its terminal closes.

    Called from the main thread, with the loop running.
    """
    if sys.platform == "win32":
        # SIGBREAK: Ctrl-Break, and the closing of the console window.
        for name in (signal.SIGBREAK, signal.SIGTERM):
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(leave))
    else:
        for name in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(name, leave)


def hang_up_check(terminal: TextIO) -> Callable[[], bool] | None:
    """A function that reports whether a terminal has gone away; None where nothing tells.

    A terminal that does not control this process goes away without a signal.
    """
    if sys.platform == "win32" or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(terminal, 0)
    return lambda: any(happened & select.POLLHUP for _, happened in poll.poll(0))


def terminal_restorer(terminal: TextIO | None, leave: bytes) -> Callable[[], None]:
    """A function that restores a terminal's present modes, callable from any thread.

    Args:
        terminal: not necessarily one; None if there is no standard input.
        leave: written first, if the modes have been changed since.
    """
    if sys.platform == "win32" or terminal is None:
        return lambda: None
    import termios

    try:
        descriptor = terminal.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, AttributeError, termios.error):  # not a terminal
        return lambda: None

    def restore() -> None:
        with suppress(OSError, termios.error):
            if termios.tcgetattr(descriptor) != before:
                os.write(descriptor, leave)
                termios.tcsetattr(descriptor, termios.TCSANOW, before)

    return restore


def is_closed_pipe(error: OSError) -> bool:
    """Whether a write failed because its reader is gone."""
    if isinstance(error, BrokenPipeError):
        return True
    return sys.platform == "win32" and error.errno == errno.EINVAL


def prepare_standard_streams() -> None:
    """Make standard output and error accept every character.

    Characters that the terminal's encoding does not have are replaced. On Windows, pipes and files
    get UTF-8 instead of the system's code page, as everywhere else.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if sys.platform == "win32" else None
            stream.reconfigure(encoding=encoding, errors="replace")


class _Silence:
    """Standard error of C libraries, discarded while any block wants it to be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._kept: int | None = None

    def begin(self) -> None:
        """Enters a block; the first one redirects the descriptor."""
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                with suppress(OSError):  # it is closed
                    self._kept = os.dup(_STDERR)
                    nothing = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nothing, _STDERR)
                    os.close(nothing)

    def end(self) -> None:
        """Leaves a block; the last one restores the descriptor."""
        with self._lock:
            self._blocks -= 1
            if not self._blocks and self._kept is not None:
                os.dup2(self._kept, _STDERR)
                os.close(self._kept)
                self._kept = None


_silence = _Silence()


@contextmanager
def silenced_libraries() -> Iterator[None]:
    """Discards what C libraries print on standard error inside the block.

    What other threads print there meanwhile is lost too, except by `stderr_for_python`.
    """
    _silence.begin()
    try:
        yield
    finally:
        _silence.end()


@contextmanager
def stderr_for_python() -> Iterator[None]:
    """Gives Python's standard error a descriptor of its own, and discards what libraries print.

    For a screen that is drawn on standard error, which is not to be disturbed.
    """
    before = sys.stderr, sys.__stderr__
    try:
        kept = os.dup(_STDERR)
    except OSError:
        yield
        return
    own = os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    with own, silenced_libraries():
        sys.stderr = sys.__stderr__ = own  # type: ignore[misc]
        try:
            yield
        finally:
            sys.stderr, sys.__stderr__ = before  # type: ignore[misc]
