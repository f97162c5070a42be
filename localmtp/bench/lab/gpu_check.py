"""Tests and measures a GPU, within a time limit, and keeps every result.

python -m localmtp.bench.lab.gpu_check OUT [--seconds 570] [--only A,B] [--skip A,B] [--small]

OUT/results.json and the tables in OUT/report.md are rewritten after every check, so that an
interrupted run keeps what it found; OUT/logs has the complete output of each. A check is skipped if
too little time is left for it. `--small` is for rehearsals on software devices. With
LOCALMTP_LLAMA_CPP_BIN, the folder of llama.cpp's programs, its server is compared on the same
files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from localmtp.bench.lab.gpu_report import report

_LM = (sys.executable, "-m", "localmtp")
_LAB = (sys.executable, "-m")
_SIZES = {
    # By model: seconds on an accelerator, most of them for writing and loading, the server's share
    # included.
    "gemma4-e4b": 60,
    "gemma4-31b": 120,
    "gemma4-26b-a4b": 110,
    "gemma4-12b": 70,
    "gemma4-e2b": 50,
}
_SHOWN = 3000
"""Characters of output in the results where it is no JSON."""


@dataclass(frozen=True, slots=True)
class Check:
    """A command with a time limit."""

    name: str
    command: tuple[str, ...]
    limit_s: float
    least_s: float
    """Not begun with less time left."""


def main() -> None:
    """Runs the checks in order of importance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=570.0)
    parser.add_argument("--only", default="", help="names of checks, comma-separated")
    parser.add_argument("--skip", default="")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    only, skip = arguments.only.split(","), arguments.skip.split(",")
    chosen = [
        check
        for check in checks(small=arguments.small)
        if (check.name in only or not arguments.only) and check.name not in skip
    ]
    run_all(chosen, arguments.out, arguments.seconds)


def checks(*, small: bool) -> Iterator[Check]:
    """Yields the checks, the most important first; `small` ones are for software devices."""
    server = _server()
    count = ("run", "nano", "Count from 1 to 20.", "--temp", "0", "--n-draft", "3", "--json")
    yield Check("doctor", (*_LM, "doctor", "--json"), 60, 10)
    yield Check("run_processor", (*_LM, *count, "--gpu-layers", "0"), 120, 10)
    for mode in ("off", "on"):
        flags = ("--device-sampling", mode)
        yield Check(f"run_sampling_{mode}", (*_LM, *count, *flags), 120, 10)
    sizes = list(_sizes(server, small=small))
    yield from sizes[:2]
    if server:
        most, repeats = ("24", "1") if small else ("160", "2")
        few = ("--prompts", "1", "--repeats", repeats, "--max-tokens", most)
        lengths = ("--n-draft", "0,3,auto", "--sampled")
        against = ("bench", "compare", "nano", "--against", server, "--json", *lengths, *few)
        yield Check("trained", (*_LM, *against), 600 if small else 100, 40)
    tests = (
        "tests/device",
        *(f"tests/engine/test_device_{n}.py" for n in ("sampling", "bandwidth")),
    )
    yield Check("tests", (*_LAB, "pytest", "-v", "-n", "0", *tests), 900 if small else 150, 40)
    yield from sizes[2:]
    verify = ("--prompts", "1", "--max-tokens", "24") if small else ("--prompts", "4")
    yield Check("verify", (*_LM, "verify", "nano", "--json", *verify), 600 if small else 90, 30)
    rounds, vocabulary = ("6", "4096") if small else ("300", "262144")
    sizes_of = ("--rounds", rounds, "--vocabulary", vocabulary)
    overhead = (*_LAB, "localmtp.bench.lab.overhead", *sizes_of)
    yield Check("overhead_host", overhead, 300, 20)
    yield Check("overhead_device", (*overhead, "--device"), 300, 20)


def _sizes(server: str, *, small: bool) -> Iterator[Check]:
    """Yields a check for every size: true shapes with random weights."""
    module = (*_LAB, "localmtp.bench.lab.servers.size")
    flags = ("--server", server) if server else ()
    if small:
        command = (*module, "nano", "--seconds", "1", "--threads", "1", *flags)
        yield Check("size_nano", command, 900, 20)
        return
    for model, seconds in _SIZES.items():
        command = (*module, f"{model}:Q4_0", "--seconds", "8", *flags)
        yield Check(f"size_{model}", command, 2 * seconds, 0.6 * seconds)


def _server() -> str:
    """Returns the path of llama.cpp's server; empty without one."""
    programs = os.environ.get("LOCALMTP_LLAMA_CPP_BIN", "")
    server = Path(programs) / "llama-server"
    return str(server) if programs and server.is_file() else ""


def run_all(chosen: Sequence[Check], out: Path, seconds: float) -> None:
    """Runs checks until the time is over, and rewrites the results after each.

    Args:
        chosen: in order.
        out: folder of the results; those of earlier runs stay.
        seconds: for all of them.
    """
    logs, kept = out / "logs", out / "results.json"
    logs.mkdir(parents=True, exist_ok=True)
    results = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    ends = time.monotonic() + seconds
    for check in chosen:
        left = ends - time.monotonic()
        found: dict[str, object] = {"skipped": f"{left:.0f} s left"}
        if left >= check.least_s:
            found = run(check, min(check.limit_s, left), logs)
        if "code" in found or check.name not in results:
            results[check.name] = found
        kept.write_text(json.dumps(results, indent=1), "utf-8")
        (out / "report.md").write_text(report(results), "utf-8")
        shown = found.get("skipped") or f"exit code {found['code']}, {found['seconds']} s"
        print(f"{check.name}: {shown}", flush=True)


def run(check: Check, limit_s: float, logs: Path) -> dict[str, object]:
    """Runs a check.

    Args:
        check: the command.
        limit_s: after which it is ended, with exit code 124.
        logs: folder for its output.

    Returns:
        `code`, `seconds`, and `json` or the end of its `output`.
    """
    began = time.monotonic()
    out, errors = (logs / f"{check.name}.{kind}" for kind in ("out", "err"))
    with (
        out.open("wb") as output,
        errors.open("wb") as problems,
        subprocess.Popen(
            check.command, stdout=output, stderr=problems, stdin=subprocess.DEVNULL
        ) as process,
    ):
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            code = 124
    text = out.read_text("utf-8", "replace")
    found: dict[str, object] = {"code": code, "seconds": round(time.monotonic() - began, 1)}
    try:
        found["json"] = json.loads(text)
    except ValueError:
        found["output"] = text[-_SHOWN:]
    if code:
        found["errors"] = errors.read_text("utf-8", "replace")[-_SHOWN:]
    return found


if __name__ == "__main__":
    main()
