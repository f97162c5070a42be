"""What the chat costs: the real program against `run`, in turns, on an otherwise idle machine.

python docs/interface.py [--model nano] [--threads 1] [--turns 8] [--prompt TEXT]

Both answer greedily with drafts of one length, so that every answer is the same work. The chat runs
in a pseudo-terminal of 120 by 36 cells; its speeds are the engine's, as it saved them.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import monotonic

import psutil  # type: ignore[import-untyped]

from localmtp.history import History

PATIENCE_S = 300.0
QUIT = b"\x11"


class Chat:
    """The program on a terminal that nobody sees."""

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
            # Its terminal: it ends with this program, however that ends.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._printed = b""
        self._wait(lambda: b"drafting on" in self._printed)

    def ask(self, prompt: str) -> tuple[float, float, float]:
        """Tokens per second, and the shares of a core that interface and model took meanwhile."""
        answered = len(self._speeds())
        os.write(self._terminal, b"/new\r")
        began, before = monotonic(), self._cpu()
        os.write(self._terminal, prompt.encode() + b"\r")
        self._wait(lambda: len(self._speeds()) > answered)
        seconds = monotonic() - began
        interface, model = (now - then for now, then in zip(self._cpu(), before, strict=True))
        return self._speeds()[-1], interface / seconds, model / seconds

    def quit(self) -> None:
        """Leave as a user does."""
        os.write(self._terminal, QUIT)
        self._wait(lambda: self._process.poll() is not None)

    def _speeds(self) -> list[float]:
        if not self._history.exists():
            return []
        history = History(self._history)
        try:
            saved = sorted(history.find(), key=lambda conversation: conversation.id)
            answers = [m for c in saved for m in history.load(c.id) if m.role == "model"]
        finally:
            history.close()
        return [m.stats.decode_tokens_per_s for m in answers if m.finish and m.stats]

    def _cpu(self) -> tuple[float, float]:
        processes = [self._process, *self._process.children()]
        times = [process.cpu_times() for process in processes]
        own, *others = (spent.user + spent.system for spent in times)
        return own, sum(others)

    def _wait(self, done: Callable[[], bool]) -> None:
        give_up = monotonic() + PATIENCE_S
        while not done():
            if monotonic() > give_up:
                raise SystemExit("the chat hangs")
            until = monotonic() + 0.2
            while (left := until - monotonic()) > 0:
                if select.select([self._terminal], [], [], left)[0]:
                    self._printed = self._printed[-4096:] + self._read()

    def _read(self) -> bytes:
        try:
            return os.read(self._terminal, 65536)
        except OSError:
            # Linux reports the other end's closing so.
            return b""


def run(arguments: list[str], prompt: str) -> float:
    """Tokens per second of `localmtp run`, streaming into a pipe."""
    command = [sys.executable, "-m", "localmtp", "run", *arguments, prompt, "--json"]
    done = subprocess.run(command, capture_output=True, check=True)
    return float(json.loads(done.stdout)["stats"]["decode_tokens_per_s"])


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--prompt", default="Count from 1 to 100.")
    asked = parser.parse_args()
    flags = [asked.model, "--threads", asked.threads, "--temp", "0", "--n-draft", "3", "--offline"]
    alone: list[float] = []
    chatting: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as home:
        chat = Chat(flags, Path(home))
        # The first of each finds the files and the code cold.
        run(flags, asked.prompt)
        chat.ask(asked.prompt)
        for _ in range(asked.turns):
            alone.append(run(flags, asked.prompt))
            chatting.append(chat.ask(asked.prompt))
        chat.quit()
    speeds = [speed for speed, _, _ in chatting]
    for name, values in (("run", alone), ("chat", speeds)):
        spread = f"{min(values):.1f} to {max(values):.1f}"
        print(f"{name:<5} {median(values):8.1f} tokens/s (median of {len(values)}, {spread})")
    ratios = sorted(ours / theirs for ours, theirs in zip(speeds, alone, strict=True))
    print(
        f"chat / run: {median(ratios):.3f} (median of pairs, {ratios[0]:.3f} to {ratios[-1]:.3f})"
    )
    shares = [median(values) for values in list(zip(*chatting, strict=True))[1:]]
    print(f"of a core, while answering: interface {shares[0]:.0%}, model {shares[1]:.0%}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
