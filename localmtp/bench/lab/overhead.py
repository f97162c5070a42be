"""Time of a round outside libllama: ctypes, pacing, sampling, detokenizing, rolling back.

python -m localmtp.bench.lab.overhead [--vocabulary 262144] [--drafts 3] [--rounds 300] [--model M]

The engine's decode loop runs on a tiny pair of random weights with the given vocabulary size, or on
a named model. Measured is the time between two events, minus the time in which libllama decodes or
synchronizes. Drafters with random weights are never right, so on the tiny pair the same few tokens
are raised in the logits of both models: every draft is accepted and all rows are verified. The time
spent on raising them is subtracted.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
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
from localmtp.engine.events import Generated
from localmtp.engine.llama import Floats, context
from localmtp.engine.pacing import AutoPolicy, Calibration, RoundPlan
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Draft, Proposal, Sampler, make_sampler
from localmtp.models import resolve

LIFTED = np.arange(1000, 4000, 50)
HEIGHTS = (60.0 - 1.2 * np.log1p(np.arange(LIFTED.size))).astype(np.float32)
"""The tail of a rank-frequency law, as the logits of text have: some 40 tokens within top-p."""

CONTEXT, PROMPT = 2048, 64


class Inside:
    """Seconds spent where they do not count."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time noted."""

        def call(*arguments: Any) -> Any:
            began = perf_counter()
            result = function(*arguments)
            self.seconds += perf_counter() - began
            return result

        return call


class Lifted:
    """Samples from logits in which the same tokens stand out."""

    def __init__(self, sampler: Sampler, inside: Inside) -> None:
        self._sampler = sampler
        self._lift = inside.timed(self._lift_all)

    def propose(self, logits: Floats) -> Proposal:
        """As the other, on lifted logits."""
        self._lift(logits)
        return self._sampler.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """As the other."""
        return self._sampler.draw(proposal, draft)

    def judge(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """As the other, on lifted logits."""
        self._lift(logits)
        return self._sampler.judge(logits, draft)

    @staticmethod
    def _lift_all(logits: Floats) -> None:
        logits[..., LIFTED] = HEIGHTS


class AtLength(AutoPolicy):
    """Does the arithmetic of automatic pacing, then drafts a fixed length."""

    def __init__(self, length: int) -> None:
        super().__init__(Calibration(), RoundPlan())
        self._wanted, self._made = length, 0

    def begin_round(self, limit: int, plan: RoundPlan) -> None:
        """Begins a round."""
        self._made = 0
        super().begin_round(limit, plan)

    def copy_length(self, match: int, available: int) -> int:
        """Returns 0."""
        super().copy_length(match, available)
        return 0

    def should_draft(self) -> bool:
        """Whether the length is not reached."""
        super().should_draft()
        return self._made < self._wanted

    def should_verify(self, confidence: float) -> bool:
        """Returns True."""
        super().should_verify(confidence)
        self._made += 1
        return True


def measure(pair: Pair, sampler: Sampler, drafts: int, rounds: int, inside: Inside) -> None:
    """Print medians of the rounds of one answer after the other."""
    outside: list[float] = []
    whole: list[float] = []
    tokens = 0
    random, loop = np.random.default_rng(0), pair.decode_loop()
    while len(outside) < rounds:
        prompt = [pair.target.vocab.bos, *random.integers(300, 500, PROMPT).tolist()]
        request = GenerationRequest(
            prompt,
            max_tokens=CONTEXT - 2 * PROMPT,
            cancelled=lambda: len(outside) >= rounds,
            sampler=sampler,
            policy=AtLength(drafts),
        )
        began = perf_counter()
        for event in loop.run(request):
            now = perf_counter()
            if isinstance(event, Generated) and len(event.drafted) == drafts:
                whole.append(now - began)
                outside.append(whole[-1] - inside.seconds)
                tokens += len(event.pieces)
            inside.seconds, began = 0.0, perf_counter()
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
    parser.add_argument("--model", help="instead of the tiny pair")
    asked = parser.parse_args()
    inside = Inside()
    for module, name in ((capi, "llama_decode"), (context, "_get_logits")):
        setattr(module, name, inside.timed(getattr(module, name)))
    with TemporaryDirectory(prefix="localmtp-") as folder:
        if asked.model:
            found = resolve(asked.model)
            paths = found.target, found.drafter
        else:
            paths = _write_tiny_pair(Path(folder), asked.vocabulary)
        with Pair.load(*paths, LoadOptions(threads=1, context=CONTEXT)) as pair:
            print(f"vocabulary of {pair.target.vocab.size}, {asked.drafts} drafts")
            for temperature in (0.0, 1.0):
                sampler = make_sampler(SamplingParams(temperature=temperature, seed=1))
                if not asked.model:
                    sampler = Lifted(sampler, inside)
                print(f"temperature {temperature:g}:", end=" ")
                measure(pair, sampler, asked.drafts, asked.rounds, inside)
    print(f"load average {psutil.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
