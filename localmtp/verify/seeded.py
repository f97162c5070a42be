"""Compares sampled answers of one seed, with drafting and without, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.events import Generated
from localmtp.engine.media import PlacedMedia
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.gumbel import GumbelSampler
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.verify.greedy import Difference
from localmtp.verify.time_limit import Stage


@dataclass(frozen=True, slots=True)
class SeededCheck:
    """Result of comparing all answers."""

    compared: int
    """Number of answers with drafting."""
    tokens: int
    """Number of tokens without drafting, all prompts together."""
    differences: tuple[Difference, ...]

    def passed(self, bound: float) -> bool:
        """Return whether all differences are near-ties, with margins below `bound`."""
        return all(difference.margin < bound for difference in self.differences)


def check_seeded(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int | None],
    max_tokens: int,
    sampling: SamplingParams,
    *,
    media: Sequence[PlacedMedia] = (),
    stage: Stage | None = None,
) -> SeededCheck:
    """Answer every prompt with one seed, without drafting and at every draft length.

    Args:
        pair: loaded.
        prompts: token ids.
        lengths: draft lengths; None is automatic pacing.
        max_tokens: maximum length of an answer.
        sampling: with a temperature above 0.
        media: images and sounds whose rows every prompt has.
        stage: limits the time; None for no limit.
    """
    loop = pair.decode_loop()
    sampling = replace(sampling, seed=sampling.seed or 0, acceptance=AcceptanceRule.GUMBEL)
    answered = tokens = 0
    differences: list[Difference] = []
    stage = stage or Stage()
    with stage.until_interrupted():
        for i, prompt in enumerate(stage.each(prompts)):
            plain, *others = (
                _answer(loop, GenerationRequest(prompt, sampling, n, max_tokens, media=media))
                for n in (0, *lengths)
            )
            drafted = dict(zip(lengths, others, strict=True))
            differences += list(_differences(pair, i, prompt, media, sampling, plain, drafted))
            answered += len(lengths)
            tokens += len(plain)
    return SeededCheck(answered, tokens, tuple(differences))


def _answer(loop: DecodeLoop, request: GenerationRequest) -> list[int]:
    return [
        piece.token_id
        for event in loop.run(request)
        if isinstance(event, Generated)
        for piece in event.pieces
    ]


def _differences(
    pair: Pair,
    prompt: int,
    tokens: Sequence[int],
    media: Sequence[PlacedMedia],
    sampling: SamplingParams,
    plain: Sequence[int],
    drafted: Mapping[int | None, Sequence[int]],
) -> Iterator[Difference]:
    for n, found in drafted.items():
        pairs = enumerate(zip(plain, found, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), None)
        if at is None:
            if len(plain) != len(found):
                # One answer ended where the other continued: compare the end with its token.
                yield Difference(prompt, n, min(len(plain), len(found)), float("inf"))
            continue
        before = [*tokens, *plain[:at]]
        logits = prefill(pair.sequences[0], before, media)[0]
        sampler = GumbelSampler(sampling, len(before))
        yield Difference(prompt, n, at, sampler.margin(logits, plain[at], found[at]))
