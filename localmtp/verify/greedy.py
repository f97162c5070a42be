"""Compares greedy answers with drafting and without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.media import PlacedMedia
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler
from localmtp.verify.answers import RecordingSampler, answer
from localmtp.verify.time_limit import Stage


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference between an answer with drafting and one without."""

    prompt: int
    """Index."""
    n_draft: int | None
    at: int
    """Number of equal tokens before it."""
    margin: float
    """Difference between the target's logits of the two tokens; infinite if one answer ended."""


@dataclass(frozen=True, slots=True)
class GreedyCheck:
    """Result of comparing all answers."""

    plain: tuple[tuple[int, ...], ...]
    """Tokens without drafting, by prompt, as far as time allowed."""
    compared: int
    """Number of answers with drafting."""
    differences: tuple[Difference, ...]

    def passed(self, bound: float) -> bool:
        """Return whether all differences are near-ties, with margins below `bound`."""
        return all(difference.margin < bound for difference in self.differences)


def check_greedy(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int | None],
    max_tokens: int,
    sampler: Sampler,
    *,
    media: Sequence[PlacedMedia] = (),
    stage: Stage | None = None,
) -> GreedyCheck:
    """Answer every prompt without drafting and at every draft length.

    Args:
        pair: loaded.
        prompts: token ids.
        lengths: draft lengths; None is automatic pacing.
        max_tokens: maximum length of an answer.
        sampler: greedy.
        media: images and sounds whose rows every prompt has.
        stage: limits the time; None for no limit.
    """
    loop, sampling = pair.decode_loop(), SamplingParams(temperature=0.0)
    plain: list[tuple[int, ...]] = []
    differences: list[Difference] = []
    stage = stage or Stage()
    with stage.until_interrupted():
        for i, prompt in enumerate(stage.each(prompts)):
            expected, *others = (
                answer(
                    loop, prompt, RecordingSampler(sampler), sampling, n, max_tokens, media=media
                )
                for n in (0, *lengths)
            )
            found = dict(zip(lengths, others, strict=True))
            differences += list(_differences(pair, i, prompt, media, expected, found))
            plain.append(tuple(expected))
    return GreedyCheck(tuple(plain), len(plain) * len(lengths), tuple(differences))


def _differences(
    pair: Pair,
    at: int,
    prompt: Sequence[int],
    media: Sequence[PlacedMedia],
    expected: Sequence[int],
    found: Mapping[int | None, Sequence[int]],
) -> Iterator[Difference]:
    for n, tokens in found.items():
        if list(tokens) != list(expected):
            pairs = enumerate(zip(expected, tokens, strict=False))
            split = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(tokens)))
            if split == min(len(expected), len(tokens)):
                # One ended where the other continued: no near-tie explains that.
                yield Difference(at, n, split, float("inf"))
                continue
            logits = prefill(pair.sequences[0], [*prompt, *expected[:split]], media)[0]
            margin = abs(float(logits[expected[split]] - logits[tokens[split]]))
            yield Difference(at, n, split, margin)
