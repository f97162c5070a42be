"""Time, memory and disk of `localmtp convert` beside llama.cpp's two steps, in one run.

    python -m tests.convert.beside CHECKPOINT FOLDER [QUANT [ROUNDS]]

converts the checkpoint (`tests.convert.large` makes one) to QUANT (Q4_K_M) by turns with both,
ROUNDS (3) times, and prints a table. FOLDER takes the files, which are removed. Needs what
`tests.convert.official` needs. Both are run with their defaults but for the threads: all cores.

Processor time and memory are those of all processes together, memory at its largest, looked at
fifty times a second; disk the bytes that all files written add up to, those in between included.
The check run of localmtp, which llama.cpp has none of, is part of its time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import psutil  # type: ignore[import-untyped]

from tests.convert import official

_PERIOD = 0.02


@dataclass
class Cost:
    """What a command, or several one after the other, took."""

    wall: float = 0.0
    processor: float = 0.0
    """Seconds."""
    resident: int = 0
    anonymous: int = 0
    """Bytes at the worst moment; anonymous: without mapped files, whose pages can be dropped."""
    disk: int = 0

    def run(self, command: list[str]) -> None:
        """Add a command.

        Raises:
            CalledProcessError: it failed.
        """
        began, before = perf_counter(), os.times()
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None:
            self._look(process)
            sleep(_PERIOD)
        self.wall += perf_counter() - began
        after = os.times()
        self.processor += after.children_user - before.children_user
        self.processor += after.children_system - before.children_system
        if process.returncode:
            raise subprocess.CalledProcessError(
                process.returncode, command, stderr=process.stderr.read()
            )

    def _look(self, process: psutil.Process) -> None:
        try:
            each = [p.memory_info() for p in (process, *process.children(recursive=True))]
        except psutil.Error:
            return
        self.resident = max(self.resident, sum(memory.rss for memory in each))
        self.anonymous = max(self.anonymous, sum(memory.rss - memory.shared for memory in each))


def ours(checkpoint: Path, folder: Path, quant: str) -> Cost:
    """`localmtp convert`."""
    cost = Cost()
    options = "--quant", quant, "--out", str(folder), "--threads", str(_threads())
    cost.run([sys.executable, "-m", "localmtp", "convert", str(checkpoint), *options])
    cost.disk = _size(folder)
    return cost


def theirs(checkpoint: Path, folder: Path, quant: str) -> Cost:
    """`convert_hf_to_gguf.py` to BF16, then `llama-quantize`."""
    cost = Cost()
    full, quantized = folder / "full.gguf", folder / "quantized.gguf"
    cost.run(official.convert_command(checkpoint, "BF16", full))
    tool = str(official.tool("llama-quantize"))
    cost.run([tool, str(full), str(quantized), quant, str(_threads())])
    cost.disk = _size(folder)
    return cost


def _threads() -> int:
    return os.cpu_count() or 1


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main(checkpoint: Path, folder: Path, quant: str, rounds: int) -> None:
    """Print medians over the rounds."""
    costs: dict[str, list[Cost]] = {"localmtp": [], "llama.cpp": []}
    for _ in range(rounds):
        for name, side in zip(costs, (ours, theirs), strict=True):
            with TemporaryDirectory(dir=folder) as scratch:
                costs[name].append(side(checkpoint, Path(scratch), quant))
    print(f"{checkpoint.name} to {quant}, {_threads()} cores, medians of {rounds}")
    print("| | wall s | CPU s | peak RSS GB | of it anonymous | files written GB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, each in costs.items():
        wall, processor = (statistics.median(getattr(c, k) for c in each) for k in _SECONDS)
        sizes = (statistics.median(getattr(c, k) for c in each) / 1e9 for k in _BYTES)
        print(f"| {name} | {wall:.1f} | {processor:.1f} |", *(f"{size:.2f} |" for size in sizes))


_SECONDS = ("wall", "processor")
_BYTES = ("resident", "anonymous", "disk")

if __name__ == "__main__":
    source, scratch_folder, *rest = sys.argv[1:]
    quant = rest[0] if rest else "Q4_K_M"
    main(Path(source), Path(scratch_folder), quant, int(rest[1]) if len(rest) > 1 else 3)
