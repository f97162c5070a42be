"""Drafters: anything that proposes tokens for the target to verify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from localmtp.engine.decoding.target import Target
from localmtp.engine.llama import Batch, Context, Floats, Model
from localmtp.engine.pacing import Pacing
from localmtp.engine.sampling.sampler import NO_DRAFT, Draft, Sampler


class Drafter(Protocol):
    """Proposes what follows the target's pending token."""

    def propose(self, last: int, sampler: Sampler, pacing: Pacing) -> Draft:
        """Draft tokens.

        Args:
            last: the pending token: chosen, not in the target's cache yet.
            sampler: draws the tokens.
            pacing: says how many; its round has begun.

        Returns:
            A draft, perhaps empty: this round is then decoded plainly.
        """

    def close(self) -> None:
        """Free what it holds; before the target."""


@dataclass(slots=True, eq=False)
class Drafting:
    """One of several drafts that are made together; see `Drafter.propose`."""

    target: Target
    """The sequence that it goes on from."""
    last: int
    sampler: Sampler
    pacing: Pacing
    draft: Draft = field(default_factory=Draft)


class NoDrafter:
    """Decodes plainly, always."""

    def propose(self, last: int, sampler: Sampler, pacing: Pacing) -> Draft:
        """Nothing."""
        return NO_DRAFT

    def close(self) -> None:
        """Nothing to free."""


class MTPDrafter:
    """Gemma 4's assistant: four layers on the target's own KV cache.

    Args:
        model: a `gemma4-assistant` made for the target.
        target: whose cache it reads; closed after it.
        sequences: of the target's context.

    Each step takes a token and a hidden row and gives logits and the next hidden row: first the
    pending token with the target's row that produced it, then each drafted token with the
    drafter's own. All steps of a round stand at the pending token's position, as the drafter was
    trained; it writes nothing to the cache, so rejected drafts leave no trace in it.
    """

    def __init__(self, model: Model, target: Target, *, sequences: int = 1) -> None:
        self._target = target
        self._context = Context(
            model,
            n_ctx=target.context.n_ctx,
            n_batch=sequences,
            n_outputs=sequences,
            threads=target.threads.most,
            sequences=sequences,
            target=target.context,
        )
        target.threads.follow(self._context.set_threads)
        self._batch = Batch(sequences, n_embd=target.model.n_embd)

    def propose(self, last: int, sampler: Sampler, pacing: Pacing) -> Draft:
        """Draft step by step until pacing says that it no longer pays."""
        if not pacing.go_on():
            return NO_DRAFT
        draft = Draft()
        batch, context = self._batch, self._context
        suppressed = self._target.vocab.suppressed
        batch.fill((last,), len(self._target.tokens), all_logits=True)
        token, hidden = last, self._target.hidden
        while True:
            batch.tokens[0] = token
            batch.hidden[0] = hidden
            context.decode(batch)
            draft.steps += 1
            logits = context.logits()[0]
            if suppressed.size:
                logits[suppressed] = float("-inf")
            proposal = sampler.propose(logits)
            if not pacing.keep(proposal.confidence):
                break
            token = sampler.draw(proposal, draft)
            if not pacing.go_on():
                break
            hidden = context.hidden()[0]
        return draft

    def propose_together(self, drafts: Sequence[Drafting]) -> None:
        """Draft for several sequences of the target's context, a step of all of them at a time.

        Args:
            drafts: still empty, those that pacing lets begin; tokens are added.
        """
        batch, context = self._batch, self._context
        suppressed = self._target.vocab.suppressed
        going = list(drafts)
        tokens = [drafting.last for drafting in going]
        hidden: Sequence[Floats] = [drafting.target.hidden for drafting in going]
        while going:
            batch.clear()
            for row, (drafting, token) in enumerate(zip(going, tokens, strict=True)):
                target = drafting.target
                position = len(target.tokens)
                batch.add((token,), position, all_logits=True, sequence=target.sequence)
                batch.hidden[row] = hidden[row]
            context.decode(batch)
            logits, rows = context.logits(), context.hidden()
            if suppressed.size:
                logits[:, suppressed] = float("-inf")
            before, going, tokens, hidden = going, [], [], []
            for row, drafting in enumerate(before):
                following = _take(logits[row], drafting)
                if following is not None:
                    going.append(drafting)
                    tokens.append(following)
                    hidden.append(rows[row])

    def close(self) -> None:
        """Free the batch and the context."""
        self._batch.close()
        self._context.close()


def _take(logits: Floats, drafting: Drafting) -> int | None:
    """Add a step's token to a draft, if it is worth verifying.

    Returns:
        The token to go on from; None if the draft ends here.
    """
    drafting.draft.steps += 1
    proposal = drafting.sampler.propose(logits)
    if not drafting.pacing.keep(proposal.confidence):
        return None
    token = drafting.sampler.draw(proposal, drafting.draft)
    return token if drafting.pacing.go_on() else None
