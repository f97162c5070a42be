"""Prefill: decodes prompts into the cache, several in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.llama import Floats
from localmtp.engine.media import PlacedMedia, RowPiece, row_number
from localmtp.errors import LocalmtpError

PASS_S = 0.5
"""Seconds of a prefill pass, short enough for cancellation and progress."""

_FIRST_ROWS = 128
"""Rows of the first pass, before the prefill rate is known, and minimum of a pass that no answer
waits for."""

_TILE = 64
"""Rows from which libllama computes attention in tiles on the processor, which round differently.
Whether a row of a prompt is in a pass of this size is a property of the prompt, so that the result
depends neither on the measured speed nor on other prompts."""

_MIN_PART = 16
"""Minimum number of tokens for a separate pass before a checkpoint."""


class _Span(NamedTuple):
    """Rows of an image or sound in a prompt."""

    start: int
    stop: int
    media: PlacedMedia


class Prefill:
    """Progress of one prompt.

    Begins with the prefix that the cache, or another sequence of its context, already holds.

    Args:
        sequence: receives the prompt.
        prompt: token ids, at least one and fewer than a sequence has positions. Those below 0 are
            rows of `media`.
        others: sequences of the same context whose prefixes may be shared.
        media: images and sounds of the prompt, in its order.
    """

    def __init__(
        self,
        sequence: TargetSequence,
        prompt: Sequence[int],
        others: Sequence[TargetSequence] = (),
        media: Sequence[PlacedMedia] = (),
    ) -> None:
        self.sequence = sequence
        self.total = len(prompt)
        self.encode_s = 0.0
        """Seconds of encoding so far."""
        self.encoded = 0
        """Rows encoded so far."""
        self.error: LocalmtpError | None = None
        """Reason why an image or sound could not be encoded; the prompt cannot be finished."""
        self._spans = _spans(prompt, media)
        self.done = self.reused = sequence.reuse(prompt, others)
        self._prompt = prompt
        self._tile = min(_TILE, sequence.context.max_prefill_rows)
        self._checkpoints = _checkpoints(sequence, prompt, self._spans)
        self._save_if_due()

    @property
    def remaining(self) -> int:
        """Prompt tokens that are not in the cache."""
        return self.total - self.done

    @property
    def media_rows(self) -> int:
        """Rows of images and sounds in the prompt."""
        return sum(span.stop - span.start for span in self._spans)

    @property
    def at_media(self) -> bool:
        """Whether the next entry of the prompt is a row of an image or sound."""
        return self._prompt[self.done] < 0

    @property
    def few(self) -> bool:
        """Whether fewer rows than a tile are left up to the next checkpoint, image or sound."""
        return self._left() < self._tile

    def part(self, rows: int, most: int) -> Sequence[int]:
        """The next tokens, up to the next checkpoint, image or sound.

        Neither they nor the tokens left then are fewer than a tile, unless they are `few` already.

        Args:
            rows: intended number.
            most: upper bound.

        Returns:
            Empty if there is no part of at most `most` rows.
        """
        left, tile = self._left(), self._tile
        if left < tile:
            return self._prompt[self.done : self.done + min(rows, most, left)]
        if left < 2 * tile:
            rows = left if left <= self.sequence.context.max_prefill_rows else tile
        elif rows < left:
            rows = min(max(rows, tile), left - tile)
        else:
            rows = left
        return self._prompt[self.done : self.done + rows] if rows <= most else ()

    def media_part(self, rows: int) -> RowPiece:
        """The next rows of an image or sound, encoded now if they are not in memory.

        Args:
            rows: most rows; an image whose rows all attend to each other comes in one piece.

        Raises:
            LocalmtpError: see `PlacedMedia.piece`.
        """
        row = row_number(self._prompt[self.done])
        piece = self._span().media.piece(row)
        self.encode_s += piece.seconds
        self.encoded += len(piece.rows) if piece.seconds else 0
        part = piece.rows[row - piece.first :]
        return replace(piece, first=row, rows=part[:rows] if piece.causal else part)

    def media_positions(self, rows: int) -> NDArray[np.int32]:
        """Positions of the next rows of an image or sound; see `RowBatch.fill`."""
        span = self._span()
        offsets = span.media.offsets(self.done - span.start, rows)
        return self.sequence.position_of(span.start) + offsets

    def advance(self, tokens: Sequence[int], row: int) -> None:
        """Records that `tokens` were decoded; see `TargetSequence.append`."""
        self.sequence.append(tokens, row)
        self.done += len(tokens)
        self._save_if_due()

    def advance_rows(self, rows: int) -> None:
        """Records that rows of an image or sound were decoded, in a pass of their own."""
        self.advance(self._prompt[self.done : self.done + rows], 0)

    def _left(self) -> int:
        """Number of tokens up to the next checkpoint, image, sound or the end."""
        stops = (*self._checkpoints, *(span.start for span in self._spans), self.total)
        return min(at for at in stops if at > self.done) - self.done

    def _span(self) -> _Span:
        """The image or sound with the next row."""
        return next(span for span in self._spans if span.start <= self.done < span.stop)

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
        self.short = False
        """Whether the last pass was limited to fewer rows than a tile."""

    def step(
        self, prefills: Iterable[Prefill], seconds: float = PASS_S
    ) -> list[tuple[Prefill, Floats]]:
        """Decodes one pass, shortest remaining prompt first: long prompts wait for short ones.

        Args:
            prefills: unfinished ones.
            seconds: intended duration of the pass.

        Returns:
            The prefills that advanced, each with its logits [1, n_vocab]; none if one failed to
            encode, which then has an `error`.

        Raises:
            LocalmtpError: see `Context.decode`.
        """
        context = self._context
        waiting = sorted(prefills, key=lambda one: one.remaining)
        least = _FIRST_ROWS if seconds == PASS_S else _TILE
        rows = max(least, int(self._rate * seconds)) if self._rate else _FIRST_ROWS
        rows = min(context.max_prefill_rows, rows)
        if waiting[0].at_media:
            self.short = False
            return self._media_pass(waiting[0], rows)
        chosen = self._choose(waiting, rows)
        parts = [(one.sequence.index, one.sequence.position, tokens) for one, tokens in chosen]
        began = perf_counter()
        logits = context.prefill(parts)
        self._rate = sum(len(tokens) for *_, tokens in parts) / (perf_counter() - began)
        for row, (prefill, tokens) in enumerate(chosen):
            prefill.advance(tokens, row)
        return [(prefill, logits[row : row + 1]) for row, (prefill, _) in enumerate(chosen)]

    def _choose(self, waiting: Sequence[Prefill], rows: int) -> list[tuple[Prefill, Sequence[int]]]:
        """Chooses the parts of the next pass: tokens or rows of media, not both.

        On the processor, parts of fewer rows than a tile have passes of fewer rows.
        """
        context, few = self._context, waiting[0].few
        separate = not context.model.offload.devices
        most = context.max_prefill_rows
        self.short = separate and few
        if self.short:
            rows = most = min(rows, _TILE - 1)
        chosen: list[tuple[Prefill, Sequence[int]]] = []
        for prefill in waiting:
            if len(chosen) == context.max_verify_rows or prefill.at_media:
                continue
            if separate and prefill.few is not few:
                continue
            if tokens := prefill.part(rows, most):
                chosen.append((prefill, tokens))
                rows = most = rows - len(tokens)
        return chosen

    def _media_pass(self, prefill: Prefill, rows: int) -> list[tuple[Prefill, Floats]]:
        """Decodes rows of an image or sound of one prompt; see `step`."""
        try:
            part, sequence = prefill.media_part(rows), prefill.sequence
        except LocalmtpError as error:
            prefill.error = error
            return []
        began = perf_counter()
        logits = self._context.prefill_rows(
            sequence.index,
            prefill.media_positions(len(part.rows)),
            part.rows,
            causal=part.causal,
        )
        self._rate = len(part.rows) / (perf_counter() - began)
        prefill.advance_rows(len(part.rows))
        return [(prefill, logits)]


def prefill(
    sequence: TargetSequence, prompt: Sequence[int], media: Sequence[PlacedMedia] = ()
) -> Floats:
    """Decodes a whole prompt into the cache.

    Args:
        sequence: receives it.
        prompt: see `Prefill`.
        media: see `Prefill`.

    Returns:
        Logits [1, n_vocab] after its last token; valid until the next pass.
    """
    sequence.context.on_host_rows(sequence.index)
    one, prefiller = Prefill(sequence, prompt, (), media), Prefiller(sequence.context)
    while True:
        advanced = prefiller.step([one])
        if one.error:
            raise one.error
        if not one.remaining:
            return advanced[0][1]


def _spans(prompt: Sequence[int], media: Sequence[PlacedMedia]) -> list[_Span]:
    """Finds the rows of media, in order: the first row of each has the number 0."""
    if not media:
        return []
    starts = [at for at, token in enumerate(prompt) if token < 0 and not row_number(token)]
    return [_Span(at, at + one.rows, one) for at, one in zip(starts, media, strict=True)]


def _checkpoints(
    sequence: TargetSequence, prompt: Sequence[int], spans: Sequence[_Span]
) -> list[int]:
    """Positions of checkpoints: the last two turns, and the end of the last image or sound.

    The next prompt may diverge there: when a question is edited, when it is answered again, and
    when the template removes the thought from the answer. Those in the cache already are left out.
    """
    done = len(sequence.tokens)
    marker = sequence.context.turn_token
    places = [at for at, token in enumerate(prompt) if token == marker][-2:]
    places += [spans[-1].stop + 1] if spans and spans[-1].stop + _MIN_PART < len(prompt) else []
    starts = [done if at - done < _MIN_PART else at for at in sorted(places) if at >= done]
    return [at for at in starts if at >= _MIN_PART]
