"""Greedy answers with drafting against those without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler
from localmtp.verify.answers import Recorder, answer


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an answer with drafting first left the one without."""

    prompt: int
    n_draft: int | None
    at: int
    """Tokens that agree before it."""
    margin: float
    """By how much the target preferred the one token to the other, in logits."""


@dataclass(frozen=True, slots=True)
class GreedyAnswers:
    """All answers compared."""

    plain: tuple[tuple[int, ...], ...]
    """Without drafting, by prompt."""
    compared: int
    """Answers with drafting."""
    differences: tuple[Difference, ...]

    def passed(self, bound: float) -> bool:
        """Whether every difference is a near-tie, that is, below what rounding can decide."""
        return all(difference.margin < bound for difference in self.differences)


def check_greedy(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int | None],
    max_tokens: int,
    sampler: Sampler,
) -> GreedyAnswers:
    """Answer every prompt without drafting and at every length.

    Args:
        pair: loaded.
        prompts: token ids.
        lengths: draft lengths; None is automatic pacing.
        max_tokens: longest answer.
        sampler: greedy.
    """
    loop, sampling = pair.decode_loop(), SamplingParams(temperature=0.0)
    plain: list[tuple[int, ...]] = []
    differences: list[Difference] = []
    for i, prompt in enumerate(prompts):
        expected = answer(loop, prompt, Recorder(sampler), sampling, 0, max_tokens)
        found = {
            n: answer(loop, prompt, Recorder(sampler), sampling, n, max_tokens) for n in lengths
        }
        plain.append(tuple(expected))
        differences += _differences(pair, i, prompt, expected, found)
    return GreedyAnswers(tuple(plain), len(prompts) * len(lengths), tuple(differences))


def _differences(
    pair: Pair,
    at: int,
    prompt: Sequence[int],
    expected: Sequence[int],
    found: Mapping[int | None, Sequence[int]],
) -> Iterator[Difference]:
    for n, tokens in found.items():
        if list(tokens) != list(expected):
            pairs = enumerate(zip(expected, tokens, strict=False))
            split = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(tokens)))
            if split == min(len(expected), len(tokens)):
                # One ended where the other went on: no tie explains that.
                yield Difference(at, n, split, float("inf"))
                continue
            logits = prefill(pair.sequences[0], [*prompt, *expected[:split]])[0]
            margin = abs(float(logits[expected[split]] - logits[tokens[split]]))
            yield Difference(at, n, split, margin)
