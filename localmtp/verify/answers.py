"""Generates answers in the engine's decode loop, and records what was accepted."""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.events import Finished, FinishReason, Generated
from localmtp.engine.llama import Floats
from localmtp.engine.media import PlacedMedia
from localmtp.engine.sampling.distribution import Distribution, Draft, Proposal
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler


class RecordingSampler:
    """Records the decisions of another sampler.

    Args:
        sampler: makes the decisions.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.tokens: list[int] = []
        """All chosen tokens, in order."""
        self.offers: list[Distribution | None] = []
        """For each token, the distribution that a draft at its position was drawn from, or None."""

    def propose(self, logits: Floats) -> Proposal:
        """See `Sampler.propose`."""
        return self._sampler.propose(logits)

    def draw(self, proposal: Proposal, draft: Draft) -> int:
        """See `Sampler.draw`."""
        return self._sampler.draw(proposal, draft)

    def accept(self, logits: Floats, draft: Draft) -> tuple[int, int]:
        """Accept or reject as the other sampler does, and record it."""
        accepted, next_token = self._sampler.accept(logits, draft)
        self.tokens += [*draft.tokens[:accepted], next_token]
        offers: list[Distribution | None] = [*draft.distributions, None]
        self.offers += offers[: accepted + 1] if draft.distributions else [None] * (accepted + 1)
        return accepted, next_token


def answer(
    loop: DecodeLoop,
    prompt: Sequence[int],
    recorder: RecordingSampler,
    sampling: SamplingParams,
    n_draft: int | None,
    max_tokens: int,
    *,
    media: Sequence[PlacedMedia] = (),
) -> list[int]:
    """Generate one answer.

    Args:
        loop: of the pair; automatic pacing remembers earlier answers.
        prompt: token ids.
        recorder: around the sampler to use; a new one.
        sampling: as implemented by the sampler.
        n_draft: draft length; None for automatic pacing.
        max_tokens: maximum length.
        media: images and sounds whose rows the prompt has.

    Returns:
        Token ids, including one that ended the turn.
    """
    request = GenerationRequest(
        prompt, sampling, n_draft=n_draft, max_tokens=max_tokens, sampler=recorder, media=media
    )
    tokens: list[int] = []
    for event in loop.run(request):
        if isinstance(event, Generated):
            tokens += [piece.token_id for piece in event.pieces if piece.token_id >= 0]
        elif isinstance(event, Finished) and event.reason is FinishReason.STOP:
            tokens.append(recorder.tokens[len(tokens)])
    return tokens
