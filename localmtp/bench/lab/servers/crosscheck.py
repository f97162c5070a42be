"""Compares `bench synthetic` with llama.cpp's server, with random acceptance on both sides.

python -m localmtp.bench.lab.servers.crosscheck SERVER gemma4-e2b:Q4_0 [TURNS]

SERVER is llama.cpp's llama-server, built from the commit that llama-cpp-python vendors. Both sides
run the same files of random weights with the same number of threads and acceptance rates. They
alternate, and every turn is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep

import httpx

from localmtp.bench.synthetic.files import synthetic_files
from localmtp.bench.synthetic.forecast import forecast
from localmtp.bench.synthetic.survey import survey
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.hardware.cpu import cores

ACCEPTANCE = (0.8, 0.6, 0.45)
"""Acceptance rate at each position; the server draws position by position."""

LENGTHS = (0, 3)
CONTEXT = 2048
_PORT, _PROMPT, _ANSWER, _SURVEY_S = 8971, 128, 128, 40.0


def main() -> None:
    """Print tokens per second of every turn, then medians and their relative difference."""
    server, model = sys.argv[1:3]
    turns = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    found: dict[tuple[str, int], list[float]] = {}
    with TemporaryDirectory(prefix="localmtp-") as folder:
        files = write_random(model, Path(folder))
        for _ in range(turns):
            for length in LENGTHS:
                with serving(server, files, length) as client:
                    found.setdefault(("llama.cpp", length), []).append(answer_rate(client))
            for length, rate in _expected(files).items():
                found.setdefault(("localmtp", length), []).append(rate)
            print({f"{who} {n}": rates[-1] for (who, n), rates in found.items()}, flush=True)
    for length in LENGTHS:
        theirs, ours = (median(found[who, length]) for who in ("llama.cpp", "localmtp"))
        print(f"draft {length}: {theirs:.2f} and {ours:.2f} tokens/s, {ours / theirs - 1:+.1%}")


def write_random(model: str, folder: Path) -> tuple[Path, Path]:
    """Write a target and a drafter of random weights."""
    name, _, quant = model.partition(":")
    paths = folder / "target.gguf", folder / "drafter.gguf"
    for file, path in zip(synthetic_files(name, quant or "Q4_0"), paths, strict=True):
        file.outline(path)
        file.fill(path)
    return paths


def _expected(files: tuple[Path, Path]) -> Mapping[int, float]:
    """Return expected tokens per second by draft length."""
    options = LoadOptions(context=CONTEXT, threads=cores())
    with Pair.load(*files, options) as pair:
        costs = survey(pair, range(max(LENGTHS) + 1), _SURVEY_S)
    return {n: forecast(costs, "given", ACCEPTANCE, n).tokens_per_s for n in LENGTHS}


@contextmanager
def serving(server: str, files: tuple[Path, Path], length: int) -> Iterator[httpx.Client]:
    """Run the server on the same files."""
    command = [server, "-m", str(files[0]), "-c", str(CONTEXT), "-t", str(cores())]
    command += ["--port", str(_PORT), "-np", "1", "--no-warmup"]
    if length:
        rates = ",".join(str(rate) for rate in ACCEPTANCE)
        command += ["-md", str(files[1]), "--spec-type", "draft-mtp"]
        command += ["--spec-draft-n-max", str(length), "--spec-synth-rates", rates]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{_PORT}", timeout=600) as client:
            _wait_for(client, process)
            yield client
    finally:
        process.terminate()
        process.wait()


def _wait_for(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        sleep(0.2)
    sys.exit(f"the server ended with {process.returncode}")


def answer_rate(client: httpx.Client) -> float:
    """Return decoded tokens per second, as the server reports them."""
    rates = []
    for first in (300, 1300):
        prompt: Sequence[int] = [2, *range(first, first + _PROMPT)]
        body = {"prompt": prompt, "n_predict": _ANSWER, "temperature": 0, "ignore_eos": True}
        done = client.post("/completion", content=json.dumps(body)).json()
        rates.append(float(done["timings"]["predicted_per_second"]))
    return median(rates)


if __name__ == "__main__":
    main()
