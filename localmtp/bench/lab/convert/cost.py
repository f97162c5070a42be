"""Measure time, memory and disk of `localmtp convert` and of llama.cpp's two steps.

    python -m localmtp.bench.lab.convert.cost CHECKPOINT FOLDER [--quant QUANT] [--rounds N]

Converts the checkpoint (`large` writes one) with both programs in turns and prints a table of
medians. Temporary files go to FOLDER. Needs the programs named in `reference`. Both use all cores,
and their defaults otherwise.

CPU time and memory are summed over all processes; memory is the peak of samples taken fifty times
a second; disk is the size of all files written, intermediate ones included. localmtp's time
includes its check that the file loads and runs, which llama.cpp does not do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import psutil  # type: ignore[import-untyped]

from localmtp.bench.lab.convert import reference

_PERIOD_S = 0.02


@dataclass
class ConversionCost:
    """Cost of one command, or of several run one after the other."""

    wall: float = 0.0
    """Seconds."""
    processor: float = 0.0
    """CPU seconds of all processes."""
    resident: int = 0
    """Peak resident memory in bytes."""
    anonymous: int = 0
    """Peak in bytes without mapped files, whose pages the kernel can drop."""
    disk: int = 0
    """Bytes of all files written."""

    def run(self, command: list[str]) -> None:
        """Run a command and add its cost.

        Raises:
            CalledProcessError: it failed; `stderr` is captured.
        """
        began, before = perf_counter(), os.times()
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None:
            self._sample(process)
            sleep(_PERIOD_S)
        self.wall += perf_counter() - began
        after = os.times()
        self.processor += after.children_user - before.children_user
        self.processor += after.children_system - before.children_system
        if process.returncode:
            raise subprocess.CalledProcessError(
                process.returncode, command, stderr=process.stderr.read()
            )

    def _sample(self, process: psutil.Process) -> None:
        try:
            each = [p.memory_info() for p in (process, *process.children(recursive=True))]
        except psutil.Error:
            return
        self.resident = max(self.resident, sum(memory.rss for memory in each))
        self.anonymous = max(self.anonymous, sum(memory.rss - memory.shared for memory in each))


def localmtp_cost(checkpoint: Path, folder: Path, quant: str) -> ConversionCost:
    """Measure `localmtp convert`."""
    cost = ConversionCost()
    options = "--quant", quant, "--out", str(folder), "--threads", str(_threads())
    cost.run([sys.executable, "-m", "localmtp", "convert", str(checkpoint), *options])
    cost.disk = _size(folder)
    return cost


def llama_cpp_cost(checkpoint: Path, folder: Path, quant: str) -> ConversionCost:
    """Measure `convert_hf_to_gguf.py` to BF16, then `llama-quantize`."""
    cost = ConversionCost()
    full, quantized = folder / "full.gguf", folder / "quantized.gguf"
    cost.run(reference.convert_command(checkpoint, "BF16", full))
    tool = str(reference.tool("llama-quantize"))
    cost.run([tool, str(full), str(quantized), quant, str(_threads())])
    cost.disk = _size(folder)
    return cost


def _threads() -> int:
    return os.cpu_count() or 1


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def compare(checkpoint: Path, folder: Path, quant: str, rounds: int) -> None:
    """Print the medians over the rounds."""
    costs: dict[str, list[ConversionCost]] = {"localmtp": [], "llama.cpp": []}
    for _ in range(rounds):
        for name, measure in zip(costs, (localmtp_cost, llama_cpp_cost), strict=True):
            with TemporaryDirectory(dir=folder) as scratch:
                costs[name].append(measure(checkpoint, Path(scratch), quant))
    print(f"{checkpoint.name} to {quant}, {_threads()} cores, medians of {rounds}")
    print("| | wall s | CPU s | peak RSS GB | of it anonymous | files written GB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, each in costs.items():
        wall, processor = (statistics.median(getattr(c, k) for c in each) for k in _SECONDS)
        sizes = (statistics.median(getattr(c, k) for c in each) / 1e9 for k in _BYTES)
        print(f"| {name} | {wall:.1f} | {processor:.1f} |", *(f"{size:.2f} |" for size in sizes))


_SECONDS = ("wall", "processor")
_BYTES = ("resident", "anonymous", "disk")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description="Cost of localmtp convert and of llama.cpp's.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="directory for temporary files")
    parser.add_argument("--quant", default="Q4_K_M", help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    arguments = parser.parse_args()
    compare(arguments.checkpoint, arguments.folder, arguments.quant, arguments.rounds)


if __name__ == "__main__":
    main()
