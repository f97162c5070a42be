"""Prefill: decodes prompts into the cache, several in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter

from localmtp.engine.decoding.context import Part, TargetContext
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.llama import Floats

PASS_S = 0.5
"""Seconds of a prefill pass, short enough for cancellation and progress."""

_FIRST_ROWS = 128
"""Rows of the first pass, before the prefill rate is known."""

_MIN_ROWS = 32
"""Minimum rows of a pass, even on a slow machine."""

_MIN_PART = 16
"""Minimum number of tokens for a separate pass before a checkpoint."""


class Prefill:
    """Progress of one prompt.

    Begins with the prefix that the cache, or another sequence of its context, already holds.

    Args:
        sequence: receives the prompt.
        prompt: token ids, at least one and fewer than a sequence has positions.
        others: sequences of the same context whose prefixes may be shared.
    """

    def __init__(
        self,
        sequence: TargetSequence,
        prompt: Sequence[int],
        others: Sequence[TargetSequence] = (),
    ) -> None:
        self.sequence = sequence
        self.total = len(prompt)
        self.done = self.reused = sequence.reuse(prompt, others)
        self._prompt = prompt
        self._checkpoints = _turn_starts(sequence, prompt)
        self._save_if_due()

    @property
    def remaining(self) -> int:
        """Prompt tokens that are not in the cache."""
        return self.total - self.done

    def part(self, rows: int) -> Sequence[int]:
        """The next tokens, at most `rows`, up to the next checkpoint."""
        ends = (at for at in (*self._checkpoints, self.total) if at > self.done)
        return self._prompt[self.done : min(next(ends), self.done + rows)]

    def advance(self, tokens: Sequence[int], row: int) -> None:
        """Records that `tokens` were decoded; see `TargetSequence.append`."""
        self.sequence.append(tokens, row)
        self.done += len(tokens)
        self._save_if_due()

    def _save_if_due(self) -> None:
        if self.done in self._checkpoints:
            self.sequence.save_checkpoint()


class Prefiller:
    """Runs prefill passes, sized by the measured rate.

    Args:
        context: of the sequences.
    """

    def __init__(self, context: TargetContext) -> None:
        self._context = context
        self._rate = 0.0  # rows per second of the last pass

    def step(
        self, prefills: Iterable[Prefill], seconds: float = PASS_S
    ) -> list[tuple[Prefill, Floats]]:
        """Decodes one pass, shortest remaining prompt first: long prompts wait for short ones.

        Args:
            prefills: unfinished ones.
            seconds: intended duration of the pass.

        Returns:
            The prefills that advanced, each with its logits [1, n_vocab].

        Raises:
            LocalmtpError: see `Context.decode`.
        """
        context = self._context
        rows = max(_MIN_ROWS, int(self._rate * seconds)) if self._rate else _FIRST_ROWS
        rows = min(context.max_prefill_rows, rows)
        chosen: list[tuple[Prefill, Sequence[int]]] = []
        parts: list[Part] = []
        for prefill in sorted(prefills, key=lambda one: one.remaining):
            if rows and len(parts) < context.max_verify_rows:
                tokens = prefill.part(rows)
                chosen.append((prefill, tokens))
                parts.append((prefill.sequence.index, prefill.done, tokens))
                rows -= len(tokens)
        began = perf_counter()
        logits = context.prefill(parts)
        self._rate = sum(len(tokens) for *_, tokens in parts) / (perf_counter() - began)
        for row, (prefill, tokens) in enumerate(chosen):
            prefill.advance(tokens, row)
        return [(prefill, logits[row : row + 1]) for row, (prefill, _) in enumerate(chosen)]


def prefill(sequence: TargetSequence, prompt: Sequence[int]) -> Floats:
    """Decodes a whole prompt into the cache.

    Args:
        sequence: receives it.
        prompt: see `Prefill`.

    Returns:
        Logits [1, n_vocab] after its last token; valid until the next pass.
    """
    one, prefiller = Prefill(sequence, prompt), Prefiller(sequence.context)
    while True:
        ((_, logits),) = prefiller.step([one])
        if not one.remaining:
            return logits


def _turn_starts(sequence: TargetSequence, prompt: Sequence[int]) -> list[int]:
    """Positions of the last two turns, where they are not in the cache yet.

    The next prompt may diverge there: when a question is edited, when it is answered again, and
    when the template removes the thought from the answer.
    """
    done = len(sequence.tokens)
    marker = sequence.context.turn_token
    turns = [at for at, token in enumerate(prompt) if token == marker][-2:]
    starts = [done if at - done < _MIN_PART else at for at in turns if at >= done]
    return [at for at in starts if at >= _MIN_PART]
