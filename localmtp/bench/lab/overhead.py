"""Time of a round outside libllama: ctypes, pacing, sampling, detokenizing, rolling back.

python -m localmtp.bench.lab.overhead [--vocabulary 262144] [--drafts 3] [--rounds 300] [--model M]
    [--top-k 64] [--top-p 0.95] [--min-p 0] [--device]

The engine's decode loop runs on a tiny pair of random weights with the given vocabulary size, or on
a named model. Measured is the time between two events, minus the time in which libllama decodes or
synchronizes. Drafters with random weights are never right, so on the tiny pair the same few tokens
are raised in the logits of both models: every draft is accepted and all rows are verified. The time
spent on raising them is subtracted. With `--device`, tokens are chosen in the graph, where nothing
can be raised.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from llama_cpp import llama_cpp as capi

from localmtp.bench.lab.checkout import imports_from_tests
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.device_options import DeviceOptions, Switch
from localmtp.engine.events import Generated
from localmtp.engine.llama import Floats, context
from localmtp.engine.pacing import AutoPolicy, Calibration, RoundPlan
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.distribution import Draft, Proposal
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.engine.sampling.sampler import Sampler
from localmtp.models import resolve

RAISED = np.arange(1000, 4000, 50)
HEIGHTS = (60.0 - 1.2 * np.log1p(np.arange(RAISED.size))).astype(np.float32)
"""Raised logits with the tail of a rank-frequency law, as in text: about 40 tokens within top-p."""

CONTEXT, PROMPT = 2048, 64


class ExcludedTime:
    """Seconds that are excluded from the measurement."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with its time added to `seconds`."""

        def call(*arguments: Any) -> Any:
            began = perf_counter()
            result = function(*arguments)
            self.seconds += perf_counter() - began
            return result

        return call


class RaisedLogitsSampler:
    """Raises the same tokens in all logits before another sampler sees them."""

    def __init__(self, sampler: Sampler, excluded: ExcludedTime) -> None:
        self._sampler = sampler
        self._raise = excluded.timed(self._raise_all)

    def propose(self, logits: Floats) -> Proposal:
        """See `Sampler.propose`."""
        self._raise(logits)
        return self._sampler.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """See `Sampler.draw`."""
        return self._sampler.draw(proposal, draft)

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """See `Sampler.accept`."""
        self._raise(logits)
        return self._sampler.accept(logits, draft)

    @staticmethod
    def _raise_all(logits: Floats) -> None:
        logits[..., RAISED] = HEIGHTS


class FixedLengthPolicy(AutoPolicy):
    """Does the arithmetic of automatic pacing, then drafts a fixed length."""

    def __init__(self, length: int) -> None:
        super().__init__(Calibration(), RoundPlan())
        self._fixed_length, self._drafted_now = length, 0

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Begin a round."""
        self._drafted_now = 0
        super().begin_round(limit, plan)

    def copy_length(self, match: int, available: int) -> int:
        """Return 0: nothing is copied."""
        super().copy_length(match, available)
        return 0

    def should_draft(self) -> bool:
        """Return whether the length is not reached."""
        super().should_draft()
        return self._drafted_now < self._fixed_length

    def should_verify(self, confidence: float) -> bool:
        """Return True."""
        super().should_verify(confidence)
        self._drafted_now += 1
        return True


def measure(
    pair: Pair,
    sampling: SamplingParams,
    around: Callable[[Sampler], Sampler] | None,
    drafts: int,
    rounds: int,
    excluded: ExcludedTime,
) -> None:
    """Print the median time of a round outside libllama, over successive answers."""
    outside: list[float] = []
    whole: list[float] = []
    tokens = 0
    random, loop = np.random.default_rng(0), pair.decode_loop()
    while len(outside) < rounds:
        prompt = [pair.target.vocab.bos, *random.integers(300, 500, PROMPT).tolist()]
        request = GenerationRequest(
            prompt,
            sampling,
            max_tokens=CONTEXT - 2 * PROMPT,
            cancelled=lambda: len(outside) >= rounds,
            around=around,
            policy=FixedLengthPolicy(drafts),
        )
        began = perf_counter()
        for event in loop.run(request):
            now = perf_counter()
            if isinstance(event, Generated) and len(event.drafted) == drafts:
                whole.append(now - began)
                outside.append(whole[-1] - excluded.seconds)
                tokens += len(event.pieces)
            excluded.seconds, began = 0.0, perf_counter()
    low, _, high = quantiles(outside, n=4)
    print(
        f"{1e6 * median(outside):6.0f} us outside libllama (quartiles {1e6 * low:.0f} to"
        f" {1e6 * high:.0f}) of {1e6 * median(whole):.0f} a round,"
        f" {tokens / len(outside):.2f} tokens in each of {len(outside)}",
        flush=True,
    )


def _write_tiny_pair(folder: Path, vocabulary: int) -> tuple[Path, Path]:
    """Write a target and a drafter with this many tokens."""
    with imports_from_tests():
        from tests.pairs import TINY, write_pair
    paths = folder / "target.gguf", folder / "drafter.gguf"
    write_pair(replace(TINY["dense"], vocab=vocabulary, context=CONTEXT), *paths)
    return paths


def main() -> None:
    """Measure greedy decoding and sampling."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vocabulary", type=int, default=262_144)
    parser.add_argument("--drafts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--model", help="a model instead of the tiny pair")
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--min-p", type=float, default=0.0)
    parser.add_argument("--device", action="store_true", help="choose tokens on the device")
    arguments = parser.parse_args()
    excluded = ExcludedTime()
    for module, name in ((capi, "llama_decode"), (context, "_get_logits")):
        setattr(module, name, excluded.timed(getattr(module, name)))
    with TemporaryDirectory(prefix="localmtp-") as folder:
        if arguments.model:
            found = resolve(arguments.model)
            paths = found.target, found.drafter
        else:
            paths = _write_tiny_pair(Path(folder), arguments.vocabulary)
        choice = DeviceOptions(sampling=Switch.ON if arguments.device else Switch.OFF)
        options = LoadOptions(threads=1, context=CONTEXT, devices=choice)
        raised = not (arguments.model or arguments.device)
        around = partial(RaisedLogitsSampler, excluded=excluded) if raised else None
        with Pair.load(*paths, options) as pair:
            print(f"vocabulary of {pair.target.vocab.size}, {arguments.drafts} drafts")
            for temperature, rule in ((0.0, "auto"), (1.0, "maximal"), (1.0, "gumbel")):
                sampling = SamplingParams(
                    temperature,
                    arguments.top_k,
                    arguments.top_p,
                    arguments.min_p,
                    seed=1,
                    acceptance=AcceptanceRule(rule),
                )
                print(f"temperature {temperature:g}, {rule}:", end=" ")
                measure(pair, sampling, around, arguments.drafts, arguments.rounds, excluded)
    print(f"load average {psutil.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
