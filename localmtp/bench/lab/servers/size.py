"""Measures one size of model, on files that are written once; prints JSON.

python -m localmtp.bench.lab.servers.size gemma4-e2b:Q4_0 [--server SERVER] [--seconds 12]

Costs of rounds by draft length, with tokens chosen on the host and on the device in turns; speeds
at the published acceptance; and llama.cpp's server (llama-server of the pinned version) on the same
files, with the same random acceptance. `nano`, which is trained, is for rehearsals.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from localmtp.bench.lab.servers.crosscheck import (
    ACCEPTANCE,
    CONTEXT,
    LENGTHS,
    answer_rate,
    serving,
    write_random,
)
from localmtp.bench.synthetic.forecast import forecast, published
from localmtp.bench.synthetic.survey import RoundCosts, survey
from localmtp.engine.device_options import DeviceOptions, Switch
from localmtp.engine.llama.ggml import devices
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.weight_reads import WeightReads
from localmtp.hardware import cpu
from localmtp.limits import MAX_AUTO_DRAFT
from localmtp.models import ModelFiles, resolve
from localmtp.session.bandwidth import weight_reads

_MODES: Mapping[str, Sequence[str]] = {"host": (), "device": ("greedy", "sampled")}
"""Kinds of answers whose tokens the device chooses, by the name of the mode."""


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--server", default="")
    parser.add_argument("--seconds", type=float, default=12.0, help="of a survey")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int, default=cpu.cores())
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="localmtp-") as folder:
        files = _files(arguments.model, Path(folder))
        found = _surveyed(files, arguments.threads, arguments.seconds, arguments.turns)
        if arguments.server and files.drafter_file:
            note("llama.cpp's server")
            paths = files.target, files.drafter_file
            found["server"] = {
                str(length): _served(arguments.server, paths, length, arguments.turns)
                for length in LENGTHS
            }
    print(json.dumps(found))


def note(text: str) -> None:
    """Report progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def _files(model: str, folder: Path) -> ModelFiles:
    if model == "nano":
        return resolve(model)
    note("writing random weights")
    target, drafter = write_random(model, folder)
    return ModelFiles(model, target, drafter, drafter.stem)


def _surveyed(files: ModelFiles, threads: int, seconds: float, turns: int) -> dict[str, Any]:
    """Return the costs of rounds of both modes, measured in turns, and what follows from them."""
    # On a processor the measured choice is the host; both are compared all the same.
    sampling = Switch.AUTO if devices() else Switch.ON
    options = LoadOptions(
        context=CONTEXT, threads=threads, devices=DeviceOptions(sampling=sampling)
    )
    reads = weight_reads(files, options.gpu_layers, options.devices, measure=True)
    note("loading")
    with Pair.load(files.target, files.drafter, options) as pair:
        lengths = range(min(MAX_AUTO_DRAFT, pair.target.max_draft) + 1)
        chosen = pair.device_sampling
        kinds = chosen.kinds if chosen and sampling is Switch.AUTO else ()
        costs: dict[str, list[RoundCosts]] = {}
        for _ in range(turns):
            for mode, on_device in _MODES.items():
                if chosen:
                    chosen.use(on_device)
                note(f"rounds, tokens chosen on the {mode}")
                costs.setdefault(mode, []).append(survey(pair, lengths, seconds))
        return {
            "model": files.name,
            "devices": [device.summary for device in pair.target.model.offload.devices],
            "cpu": cpu.processor(),
            "threads": threads,
            "device_sampling": list(kinds),
            "memory": asdict(reads) if reads else None,
            "load_s": pair.load_s,
            "modes": {mode: _described(found, reads) for mode, found in costs.items()},
        }


def _described(turns: Sequence[RoundCosts], reads: WeightReads | None) -> dict[str, Any]:
    """Return medians over turns, and the speeds that they give."""

    def medians(part: str) -> tuple[float, ...]:
        return tuple(map(median, zip(*(getattr(one, part) for one in turns), strict=True)))

    rounds = min(one.rounds for one in turns)
    costs = RoundCosts(medians("draft_s"), medians("verify_s"), medians("rest_s"), rounds)
    fixed = range(len(costs.verify_s))
    speeds = {
        workload: {
            "auto" if n is None else str(n): forecast(costs, workload, shares, n).tokens_per_s
            for n in (*fixed, None)
        }
        for workload, shares in published().items()
    }
    given = {str(n): forecast(costs, "given", ACCEPTANCE, n).tokens_per_s for n in LENGTHS}
    share = reads.share(0, 0, costs.round_s(0)) if reads else 0.0
    return {**asdict(costs), "tokens_per_s": speeds, "given": given, "bandwidth_share": share}


def _served(server: str, paths: tuple[Path, Path], length: int, turns: int) -> float:
    """Return the server's median tokens per second."""
    rates = []
    for _ in range(turns):
        with serving(server, paths, length) as client:
            rates.append(answer_rate(client))
    return median(rates)


if __name__ == "__main__":
    main()
