"""A prompt on its way into the cache of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localmtp.engine.decoding.target import Target


class Prefill:
    """What of a prompt is in the cache, and what comes next.

    It begins with what the cache, or another sequence of its context, has of the prompt.

    Args:
        target: the sequence.
        prompt: at least one token, and fewer than a sequence has positions.
        others: sequences beside this one, whose beginnings may be shared.
    """

    def __init__(
        self, target: Target, prompt: Sequence[int], others: Sequence[Target] = ()
    ) -> None:
        self.target = target
        self.total = len(prompt)
        self.done = self.reused = target.reuse(prompt, others)
        self._prompt = prompt
        self._checkpoints = target.turns_in(prompt)
        self._save_if_due()

    @property
    def lacking(self) -> int:
        """Tokens that are not in the cache."""
        return self.total - self.done

    def part(self, most: int) -> Sequence[int]:
        """The next tokens, at most so many, up to the next place to come back to."""
        ends = (at for at in (*self._checkpoints, self.total) if at > self.done)
        return self._prompt[self.done : min(next(ends), self.done + most)]

    def advance(self, tokens: int) -> None:
        """So many more are in the cache."""
        self.done += tokens
        self._save_if_due()

    def _save_if_due(self) -> None:
        if self.done in self._checkpoints:
            self.target.save_checkpoint()
