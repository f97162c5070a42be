"""Decoding speed of the chat against `run`, alternating, on an otherwise idle Linux machine.

python -m localmtp.bench.lab.chat.against_run [--model nano] [--threads 1] [--turns 8]

All answers are greedy with one draft length, so that each is the same work. The chat runs in a
pseudo-terminal of 120 by 36 cells; its speeds are those that the engine saved. In each turn `run`
answers alone, and again next to a program that burns as much of a core as the interface used: the
slowdown that causes is the machine's share of the loss, not the chat's.

Time of the generating thread on a core, waiting for one, and asleep comes from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from localmtp.engine.stats import Stats
from localmtp.history import History

if sys.platform == "win32":
    sys.exit("this measurement needs a pseudo-terminal and /proc")

import fcntl
import pty
import termios

PATIENCE_S = 300.0
QUIT = b"\x11"
BURSTS_PER_S = 10
BURN = """
import sys, time
pause, burst = 1 / float(sys.argv[1]), float(sys.argv[2]) / float(sys.argv[1])
while True:
    until = time.thread_time() + burst
    while time.thread_time() < until:
        pass
    time.sleep(pause - burst)
"""
"""Program that uses a share of a core, in bursts."""


class ChatAnswer(NamedTuple):
    """One answer in the chat; all fields but the first are shares of its duration."""

    tokens_per_s: float
    interface: float
    """CPU time of the interface, from the prompt until the answer is saved."""
    model: float
    """CPU time of the generating thread."""
    queued: float
    """Time of the generating thread waiting for a core."""


class Chat:
    """The chat in a pseudo-terminal."""

    def __init__(self, arguments: list[str], home: Path) -> None:
        self._terminal, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self._history = home / "localmtp" / "history.sqlite3"
        self._process = psutil.Popen(
            [sys.executable, "-m", "localmtp", "chat", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"XDG_DATA_HOME": str(home), "TERM": "xterm-256color"},
            start_new_session=True,
            # As its controlling terminal: the chat ends with this program.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._printed = b""
        self._wait(lambda: b"drafting on" in self._printed)

    def ask(self, prompt: str) -> ChatAnswer:
        """Send a prompt, and measure until the answer is saved."""
        answered = len(self._answers())
        os.write(self._terminal, b"/new\r")
        before = self._spent()
        os.write(self._terminal, prompt.encode() + b"\r")
        self._wait(lambda: len(self._answers()) > answered)
        spent = [now - then for now, then in zip(self._spent(), before, strict=True)]
        stats = self._answers()[-1]
        seconds = stats.ttft_s + stats.decode_s
        return ChatAnswer(stats.decode_tokens_per_s, *(part / seconds for part in spent))

    def quit(self) -> None:
        """Quit with Ctrl+Q."""
        os.write(self._terminal, QUIT)
        self._wait(lambda: self._process.poll() is not None)

    def _answers(self) -> list[Stats]:
        if not self._history.exists():
            return []
        history = History(self._history)
        try:
            saved = sorted(history.find(), key=lambda conversation: conversation.id)
            answers = [m for c in saved for m in history.load(c.id) if m.role == "model"]
        finally:
            history.close()
        return [m.stats for m in answers if m.finish and m.stats]

    def _spent(self) -> tuple[float, float, float]:
        """Return seconds of the interface, of the generating thread, and of its waiting time."""
        model = self._process.children()[0].pid
        times = self._process.cpu_times()
        on_core, queued, _ = (
            Path(f"/proc/{model}/task/{model}/schedstat").read_text("utf-8").split()
        )
        return times.user + times.system, int(on_core) / 1e9, int(queued) / 1e9

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = monotonic() + PATIENCE_S
        while not done():
            if monotonic() > deadline:
                raise SystemExit("the chat hangs")
            until = monotonic() + 0.2
            while (left := until - monotonic()) > 0:
                if select.select([self._terminal], [], [], left)[0]:
                    self._printed = self._printed[-4096:] + self._read()

    def _read(self) -> bytes:
        try:
            return os.read(self._terminal, 65536)
        except OSError:
            # The other end was closed.
            return b""


def run(arguments: list[str], prompt: str) -> float:
    """Return tokens per second of `localmtp run`."""
    command = [sys.executable, "-m", "localmtp", "run", *arguments, prompt, "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return float(json.loads(done.stdout)["stats"]["decode_tokens_per_s"])


@contextmanager
def burning(share: float) -> Iterator[None]:
    """Run a program that uses a share of a core during the block."""
    command = [sys.executable, "-c", BURN, str(BURSTS_PER_S), str(share)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    """Measure as the command line says, and print a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--prompt", default="Count from 1 to 100.")
    asked = parser.parse_args()
    flags = [asked.model, "--threads", asked.threads, "--temp", "0", "--n-draft", "3", "--offline"]
    alone: list[float] = []
    burdened: list[float] = []
    answers: list[ChatAnswer] = []
    with tempfile.TemporaryDirectory() as home:
        chat = Chat(flags, Path(home))
        # Warm up: files and code are not in memory yet.
        run(flags, asked.prompt)
        chat.ask(asked.prompt)
        for _ in range(asked.turns):
            alone.append(run(flags, asked.prompt))
            answers.append(chat.ask(asked.prompt))
            with burning(min(0.9, answers[-1].interface)):
                burdened.append(run(flags, asked.prompt))
        chat.quit()
    report(alone, burdened, answers)


def report(alone: list[float], burdened: list[float], answers: list[ChatAnswer]) -> None:
    """Print medians and ratios."""
    speeds = [answer.tokens_per_s for answer in answers]
    rows = {"run": alone, "chat": speeds, "burdened run": burdened}
    for name, values in rows.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{name:<10} {median(values):8.1f} tokens/s (median of {len(values)}, {spread})")
    for name in ("chat", "burdened run"):
        ratios = sorted(ours / theirs for ours, theirs in zip(rows[name], alone, strict=True))
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        # On a machine with varying load, only the fastest answers are comparable.
        fastest = max(rows[name]) / max(alone)
        print(
            f"{name} / run: {median(ratios):.3f} (median of pairs, {spread}); "
            f"of the fastest of each: {fastest:.3f}"
        )
    _, interface, model, queued = (median(column) for column in zip(*answers, strict=True))
    print(
        f"while answering: interface {interface:.0%} of a core; "
        f"generating thread {model:.0%} on a core, {queued:.0%} waiting for one"
    )
    print(f"load average {psutil.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
