"""Tests and measures a GPU, within a time limit, and keeps every result.

python -m localmtp.bench.lab.gpu_check OUT [--seconds 570] [--only A,B] [--skip A,B] [--small]

OUT/results.json is rewritten after every check, so that an interrupted run keeps what it found;
OUT/logs has the complete output of each. A check is skipped if too little time is left for it.
`--small` is for rehearsals on software devices. With LOCALMTP_LLAMA_CPP_BIN, the folder of
llama.cpp's programs, its server is compared on the same files.
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

_LM = (sys.executable, "-m", "localmtp")
_SIZES = {
    # By model: seconds for its synthetic benchmark on an accelerator.
    "gemma4-e4b": 90,
    "gemma4-12b": 110,
    "gemma4-31b": 150,
    "gemma4-26b-a4b": 140,
    "gemma4-e2b": 80,
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
    """Yields the checks; `small` ones take seconds on a software device."""
    count = ("run", "nano", "Count from 1 to 20.", "--temp", "0", "--json")
    yield Check("doctor", (*_LM, "doctor", "--json"), 60, 10)
    yield Check("run_gpu", (*_LM, *count), 120, 10)
    yield Check("run_cpu", (*_LM, *count, "--gpu-layers", "0"), 120, 10)
    for mode in ("off", "on"):
        flags = ("--device-sampling", mode)
        yield Check(f"sampling_{mode}", (*_LM, *count, *flags), 120, 10)
    pytest = (sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "device")
    yield Check("tests", pytest, 600 if small else 240, 60)
    if small:
        synthetic = ("bench", "synthetic", "nano", "--json", "--budget", "0.2")
        yield Check("synthetic_nano", (*_LM, *synthetic), 300, 20)
    else:
        yield from _synthetic()
    verify = ("--prompts", "1", "--max-tokens", "24") if small else ()
    yield Check("verify", (*_LM, "verify", "nano", "--json", *verify), 400, 40)
    overhead = ("--rounds", "6", "--vocabulary", "4096") if small else ()
    module = "localmtp.bench.lab.overhead"
    yield Check("overhead", (sys.executable, "-m", module, *overhead), 300, 20)
    yield from _against_server(small=small)


def _synthetic() -> Iterator[Check]:
    """True shapes with random weights, at the published acceptance, both ways of choosing."""
    for model, seconds in _SIZES.items():
        for mode in ("off", "on"):
            command = (*_LM, "bench", "synthetic", f"{model}:Q4_0", "--json", "--budget", "0.2")
            flags = ("--device-sampling", mode)
            name = f"synthetic_{model}_{mode}"
            yield Check(name, (*command, *flags), seconds, seconds / 2)


def _against_server(*, small: bool) -> Iterator[Check]:
    programs = os.environ.get("LOCALMTP_LLAMA_CPP_BIN", "")
    server = Path(programs) / "llama-server"
    if not programs or not server.is_file():
        return
    few = ("--prompts", "1", "--repeats", "1", "--max-tokens", "24") if small else ()
    against = ("bench", "compare", "nano", "--against", str(server), "--json", *few)
    yield Check("server_nano", (*_LM, *against), 400, 40)
    if not small:
        module = "localmtp.bench.lab.servers.crosscheck"
        command = (sys.executable, "-m", module, str(server), "gemma4-e4b:Q4_0", "1")
        yield Check("server_e4b", command, 240, 150)


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
        if left < check.least_s:
            results[check.name] = {"skipped": f"{left:.0f} s left"}
        else:
            results[check.name] = run(check, min(check.limit_s, left), logs)
        kept.write_text(json.dumps(results, indent=1), "utf-8")
        found = results[check.name]
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
