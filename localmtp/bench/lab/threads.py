"""Time of passes and draft steps by number of compute threads.

    python -m localmtp.bench.lab.threads MODEL [--threads 1 2] [--drafts 0 1 3 8] [--rounds 300]

Numbers of threads take turns, a few passes each, so that the load of the machine affects all alike.
On a busy machine the lowest times are those of moments in which no other program had a core.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from statistics import quantiles
from time import perf_counter

import psutil  # type: ignore[import-untyped]

from localmtp.bench.lab.sampling.opened import add_options, opened
from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.pacing import FixedPolicy, RoundPlan
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.sampler import Greedy

_TURN = 8
"""Passes of a turn; the first of them pays for the change and is not counted."""

_STEP = -1
"""Key of a draft step."""


def measure(
    pair: Pair, prompt: list[int], threads: list[int], drafts: list[int], rounds: int
) -> dict[tuple[int, int], list[float]]:
    """Returns seconds by number of threads and draft length; `_STEP` for a draft step."""
    seconds: dict[tuple[int, int], list[float]] = defaultdict(list)
    sequence, drafter = pair.sequences[0], pair.drafter
    token = prompt[-1]
    for _ in range(max(1, rounds // (_TURN - 1))):
        prefill(sequence, prompt)
        for length in drafts:
            for count in threads:
                pair.target.threads.set(count)
                for turn in range(_TURN):
                    began = perf_counter()
                    sequence.verify(token, [token] * length)
                    ended = perf_counter()
                    sequence.commit(token, (), length)
                    if turn:
                        seconds[count, length].append(ended - began)
        for count in threads if drafter else ():
            assert drafter is not None
            pair.target.threads.set(count)
            for turn in range(_TURN):
                slot = DraftSlot(sequence, Greedy(), policy := FixedPolicy(1), token)
                policy.begin_round(1, RoundPlan())
                began = perf_counter()
                drafter.propose([slot])
                if turn:
                    seconds[count, _STEP].append(perf_counter() - began)
    return seconds


def main() -> None:
    """Prints one row for every draft length and number of threads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_options(parser, prompts=1, max_tokens=512)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--drafts", type=int, nargs="+", default=[0, 1, 3, 8])
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    with opened(given, threads=max(given.threads)) as of:
        found = measure(of.pair, of.prompts[0], given.threads, given.drafts, given.rounds)
    print("| | threads | lowest us | 5 % | median |\n|---|---|---|---|---|")
    for (count, length), seconds in sorted(found.items(), key=lambda item: item[0][::-1]):
        name = "draft step" if length == _STEP else f"pass, {length} drafts"
        low, middle = quantiles(seconds, n=20)[0], quantiles(seconds, n=2)[0]
        cells = [f"{1e6 * value:.0f}" for value in (min(seconds), low, middle)]
        print(f"| {name} | {count} |", " | ".join(cells), "|")
    print(f"load average {psutil.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
