"""The target's KV cache and batches, shared by its sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.kv_type import KVType
from localmtp.engine.llama import Batch, Context, Floats, Model, RowBatch
from localmtp.engine.markup.kinds import NO_MARKUP, TURNS, markup_of
from localmtp.engine.recurrent import draft_limit, state_bytes
from localmtp.engine.threads import Threads
from localmtp.errors import LocalmtpError
from localmtp.limits import BATCH_ROWS, MAX_DRAFT

MAX_VERIFY_ROWS = 128
"""Rows of the largest verification pass. Passes become compute-bound, and drafts stop paying, far
below this."""

Part = tuple[int, int, Sequence[int]]
"""Consecutive tokens of one sequence: its number, the position of the first token, token ids."""


class TargetContext:
    """The context of a target; owns what its sequences share.

    Args:
        model: the target; the caller closes it after this context.
        n_ctx: positions of each sequence.
        batch: rows of the largest prefill batch.
        threads: number of compute threads, followed as it changes.
        full_window: see `Context`.
        kv_type: quantization type of the KV cache.
        sequences: number of sequences.
        all_hidden: keep the hidden state of every row, which an MTP head reads.
        hidden: compute hidden states, for a drafter that reads them.

    Raises:
        LocalmtpError: libllama cannot create the context.
    """

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        batch: int = BATCH_ROWS,
        threads: Threads,
        full_window: bool,
        kv_type: KVType = KVType.F16,
        sequences: int = 1,
        hidden: bool = True,
        all_hidden: bool = False,
    ) -> None:
        self.model = model
        self.kv_type = kv_type
        self.computes_hidden = hidden
        """Whether the drafter reads hidden states, so that passes compute them."""
        width = 0 if hidden else model.n_embd_out
        self._no_hidden = np.broadcast_to(np.zeros(width, np.float32), (batch, width))
        self.all_hidden = all_hidden
        self.vocab = model.vocab
        self.threads = threads
        self.n_sequences = sequences
        self.max_prefill_rows = min(batch, n_ctx)
        most = _draft_limit(model)
        wanted = max(most + 1, min(sequences * (most + 1), MAX_VERIFY_ROWS))
        self.max_verify_rows = min(self.max_prefill_rows, wanted)
        """Rows of the largest verification pass, all sequences together."""
        self.cache = Context(
            model,
            n_ctx=n_ctx * sequences,
            n_batch=self.max_prefill_rows,
            n_outputs=self.max_verify_rows,
            threads=threads.most,
            full_window=full_window,
            kv_type=kv_type,
            sequences=sequences,
            hidden=hidden,
            all_hidden=all_hidden,
            snapshots=most,
        )
        most = self.cache.snapshots or most
        self.max_draft = min(most, self.max_verify_rows - 1)
        """Longest draft of a sequence, in tokens."""
        self.replays = self.cache.recurrent and not self.cache.snapshots
        """Whether rejected drafts are rolled back to a checkpoint, and accepted ones decoded
        again, because libllama keeps no states for this architecture."""
        threads.follow(self.cache.set_threads)
        self.n_ctx = self.cache.n_ctx // sequences
        """Positions of each sequence, prompt and answer together."""
        self.window = 0 if full_window else model.n_swa
        """Positions that sliding-window layers hold; 0 if all layers hold every position."""
        self.needs_checkpoints = bool(self.window) or self.cache.recurrent
        """Whether some layers cannot be rolled back to every position."""
        self.followers: list[Callable[[int, int, int], None]] = []
        """Called after `share` with the same arguments, by caches that follow this one."""
        self.on_host_rows: Callable[[int], None] = _nothing
        """Called with a sequence whose logits are read on the host; see `DeviceSampling`."""
        self._rows = [0] * sequences
        self._replays: list[Part] = []
        structural = self.vocab.structural
        self.markup = NO_MARKUP
        """Markers of thoughts and tool calls."""
        self.use_template(model.metadata.get("tokenizer.chat_template", ""))
        turns = (token for text in TURNS if (token := structural(text)) is not None)
        self.turn_token = next(turns, -1)
        """Opens every turn of a conversation; -1 if the vocabulary has no such token."""
        self._prefill_batch = Batch(self.max_prefill_rows)
        self._verify_batch = Batch(self.max_verify_rows)
        self._row_batch: RowBatch | None = None

    def use_template(self, source: str) -> None:
        """Follows the markers of a chat template, which may be empty, in later answers."""
        structural = self.vocab.structural
        self.markup = markup_of(source, lambda text: structural(text) is not None)

    def close(self) -> None:
        """Frees the context and the batches."""
        if self._row_batch:
            self._row_batch.close()
        self._verify_batch.close()
        self._prefill_batch.close()
        self.cache.close()

    def prefill(self, parts: Sequence[Part]) -> Floats:
        """Decodes parts of prompts in one pass.

        Args:
            parts: at most `max_prefill_rows` tokens and `max_verify_rows` parts.

        Returns:
            Logits [len(parts), n_vocab] after the last token of each part.

        Raises:
            LocalmtpError: see `Context.decode`.
        """
        return self._decode(self._prefill_batch, parts, all_logits=False)

    def prefill_rows(
        self, sequence: int, positions: NDArray[np.int32], rows: Floats, *, causal: bool
    ) -> Floats:
        """Decodes rows of an image or sound in one pass.

        Args:
            sequence: its number.
            positions: of the rows, see `RowBatch.fill`.
            rows: [n, n_embd], at most `max_prefill_rows`.
            causal: see `Context.decode_rows`.

        Returns:
            Logits [1, n_vocab] after the last row.

        Raises:
            LocalmtpError: see `Context.decode`.
        """
        if len(rows) > self.max_prefill_rows:
            raise LocalmtpError(
                f"{len(rows)} rows do not fit a pass of {self.max_prefill_rows}",
                hint=f"allow larger passes: `--batch {len(rows)}`",
            )
        if self._row_batch is None:
            self._row_batch = RowBatch(
                self.max_prefill_rows, rows.shape[1], multiaxial=self.model.multiaxial
            )
        self._row_batch.fill(rows, positions, sequence=sequence)
        self._rows[sequence] = 0
        self.cache.decode_rows(self._row_batch, causal=causal)
        return self._outputs()

    def verify(self, parts: Sequence[Part]) -> Floats:
        """Decodes pending tokens, each followed by its draft, in one pass.

        Args:
            parts: at most `max_verify_rows` tokens.

        Returns:
            Logits [tokens, n_vocab]: part after part, a row for every token.

        Raises:
            LocalmtpError: see `Context.decode`.
        """
        return self._decode(self._verify_batch, parts, all_logits=True)

    def hidden(self) -> Floats:
        """Hidden states [rows, n_embd] of the last pass, one for every row of logits.

        Zeros if the context computes none.
        """
        return self._no_hidden if self._no_hidden.size else self.cache.hidden()

    def first_row(self, sequence: int) -> int:
        """Row of the first token of a sequence in the last pass that it was part of."""
        return self._rows[sequence]

    def share(self, source: int, sequence: int, position: int) -> None:
        """Shares cells with another sequence; see `Context.share`."""
        self.cache.share(source, sequence, position)
        for follow in self.followers:
            follow(source, sequence, position)

    def replay_later(self, part: Part) -> None:
        """Notes tokens that `replay` decodes again, after the results of this pass are read."""
        self._replays.append(part)

    def replay(self) -> None:
        """Decodes again what was accepted of sequences that went back to a checkpoint.

        Raises:
            LocalmtpError: see `Context.decode`.
        """
        if self._replays:
            parts, self._replays = self._replays, []
            self._decode(self._prefill_batch, parts, all_logits=False)

    def _decode(self, batch: Batch, parts: Sequence[Part], *, all_logits: bool) -> Floats:
        batch.clear()
        rows = self._rows
        for sequence, position, tokens in parts:
            rows[sequence] = batch.n_rows
            batch.add(tokens, position, all_logits=all_logits, sequence=sequence)
        self.cache.decode(batch)
        return self._outputs()

    def _outputs(self) -> Floats:
        """Returns the logits of a pass, with tokens that are never generated suppressed."""
        self.threads.look()
        logits = self.cache.logits()
        if self.vocab.suppressed.size:
            logits[:, self.vocab.suppressed] = -np.inf
        return logits


def _nothing(_sequence: int) -> None:
    """Does nothing: all logits are on the host."""


def _draft_limit(model: Model) -> int:
    """Longest draft that the recurrent states of a model allow."""
    if not model.recurrent:
        return MAX_DRAFT

    def setting(key: str) -> int:
        with suppress(ValueError):
            return int(model.metadata.get(f"{model.architecture}.{key}", 0))
        return 0

    return draft_limit(state_bytes(setting))
