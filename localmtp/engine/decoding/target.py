"""The model whose output is wanted: prefill, verify, roll back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from operator import itemgetter
from time import perf_counter
from typing import Self

import numpy as np

from localmtp.engine.decoding.checkpoints import Checkpoints
from localmtp.engine.decoding.prefill import Prefill
from localmtp.engine.kv_type import KVType
from localmtp.engine.llama import Batch, Context, Floats, Model
from localmtp.engine.threads import Threads
from localmtp.limits import BATCH_ROWS, MAX_DRAFT

MOST_ROWS = 128
"""Rows of the largest verification pass of several sequences. Far below it passes cost what their
arithmetic costs, and drafts no longer pay."""

_FIRST_BATCH, _BATCH_S = 128, 0.5
"""Prefill is cut into batches of about half a second, so that it can be stopped and followed."""

_TURN = "<|turn>"
"""Opens every turn of Gemma 4's template."""

_NEAR = 16
"""Tokens that are not worth a batch, and so a pass, of their own."""

_WORTH_SHARING = 64
"""Tokens that another sequence must have more of a prompt: sharing copies its sliding layers."""


class Target:
    """A sequence of tokens in a target's context, which several may share.

    Args:
        model: a Gemma 4 target; stays the caller's to close.
        n_ctx: positions of a sequence.
        batch: rows of the largest prefill batch.
        threads: how many compute.
        full_window: see `Context`.
        kv_type: of the KV cache.
        sequences: that the context has room for; `beside` gives those after the first.

    Between calls the cache holds `tokens`, perhaps followed by leftovers of a pass that was
    interrupted; `prefill` drops those.
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
    ) -> None:
        self.model = model
        self.vocab = model.vocab
        rows = min(batch, n_ctx)
        self.most_rows = min(rows, max(MAX_DRAFT + 1, min(sequences * (MAX_DRAFT + 1), MOST_ROWS)))
        """Of a verification pass, all sequences together."""
        self.context = Context(
            model,
            n_ctx=n_ctx * sequences,
            n_batch=rows,
            n_outputs=self.most_rows,
            threads=threads.most,
            full_window=full_window,
            kv_type=kv_type,
            sequences=sequences,
        )
        self.threads = threads
        threads.follow(self.context.set_threads)
        self.n_ctx = self.context.n_ctx // sequences
        """Tokens that prompt and answer may have together."""
        self.sequence = 0
        self.tokens: list[int] = []
        self.hidden: Floats = np.zeros(model.n_embd, np.float32)
        """[n_embd]: the hidden state that produced the token to come."""
        self._most_prompt_rows = rows
        self._window = 0 if full_window else model.n_swa
        self._turn = self.vocab.tokenize(_TURN, special=True)
        self._checkpoints = Checkpoints(self.context, sequences=sequences)
        self._prompt_batch = Batch(rows)
        self._pass_batch = Batch(self.most_rows)

    def beside(self, sequence: int) -> Self:
        """Another sequence of the same context, empty; closed with this one.

        Args:
            sequence: its number, from 1 on.
        """
        other = copy(self)
        other.sequence = sequence
        other.tokens = []
        other.hidden = np.zeros_like(self.hidden)
        other._checkpoints = self._checkpoints.beside(sequence)
        return other

    def close(self) -> None:
        """Free the context and the batches."""
        self._pass_batch.close()
        self._prompt_batch.close()
        self.context.close()

    def prefill(self, prompt: Sequence[int]) -> Iterator[int]:
        """Bring the prompt into the cache, reusing what it shares with the one there.

        Args:
            prompt: at least one token, and fewer than a sequence has positions.

        Yields:
            How many prompt tokens are in the cache: first the reused ones, then after each batch.
        """
        prefill = Prefill(self, prompt)
        yield prefill.done
        rows = self.batch_for(_BATCH_S, 0.0)
        while prefill.lacking:
            began = perf_counter()
            part = prefill.part(rows)
            self.read_together([(self, part)])
            prefill.advance(len(part))
            rows = self.batch_for(_BATCH_S, len(part) / (perf_counter() - began))
            yield prefill.done

    def batch_for(self, seconds: float, rate: float) -> int:
        """Rows of a prefill batch that takes about so long.

        Args:
            seconds: that it should take.
            rate: rows per second of the batch before; 0 for the first.
        """
        rows = max(_FIRST_BATCH // 4, int(rate * seconds)) if rate else _FIRST_BATCH
        return min(self._most_prompt_rows, rows)

    def reuse(self, prompt: Sequence[int], others: Sequence[Target] = ()) -> int:
        """Keep what the cache, or that of another sequence, shares with a prompt.

        Args:
            prompt: see `prefill`.
            others: sequences beside this one.

        Returns:
            How many of its tokens are in the cache; never all, as the last one's logits are needed.
        """
        self.threads.restart()
        shared = self.shared_with(prompt)
        self._checkpoints.forget_after(shared)
        done = self._go_back(min(shared, len(prompt) - 1))
        return self._share(prompt, others, done)

    def read_together(self, parts: Sequence[tuple[Target, Sequence[int]]]) -> Floats:
        """One pass over parts of prompts, of several sequences of this context.

        Args:
            parts: of each sequence, itself and the tokens that come next.

        Returns:
            Logits [len(parts), n_vocab]: what follows each part.
        """
        batch = self._prompt_batch
        batch.clear()
        for target, part in parts:
            position = len(target.tokens)
            batch.add(part, position, all_logits=False, sequence=target.sequence)
        self._decode(batch)
        logits = self.logits()
        for row, (target, part) in enumerate(parts):
            target.tokens.extend(part)
            np.copyto(target.hidden, self.context.hidden()[row])
        return logits

    def save_checkpoint(self) -> None:
        """Make it possible to come back to the cache as it is now."""
        if self._window:
            self._checkpoints.save(len(self.tokens))

    def shared_with(self, prompt: Sequence[int]) -> int:
        """Tokens at the beginning of a prompt that the cache begins with too."""
        most = min(len(self.tokens), len(prompt))
        return next((i for i in range(most) if self.tokens[i] != prompt[i]), most)

    def forget(self) -> None:
        """Empty the cache and drop the checkpoints."""
        self._checkpoints.forget_after(0)
        self.context.forget_from(0, self.sequence)
        self.tokens.clear()

    def _go_back(self, length: int) -> int:
        """Cut the cache to `length` tokens, or to fewer where what they need is gone.

        Returns:
            How many are left.
        """
        if length < len(self.tokens) and not self._holds_window(length):
            length = self._checkpoints.restore(length)
        self.context.forget_from(length, self.sequence)
        del self.tokens[length:]
        return length

    def _holds_window(self, length: int) -> bool:
        """Whether the sliding layers hold what a token behind the first `length` looks at."""
        needed = max(0, length - self._window + 1)
        return not self._window or self.context.earliest_position(self.sequence) <= needed

    def _share(self, prompt: Sequence[int], others: Sequence[Target], done: int) -> int:
        """Begin as another sequence does, where that has more of the prompt.

        Cells of the full layers are shared; the sliding ones' are copied, since libllama keeps
        those that several sequences hold beyond the window.

        Returns:
            How many tokens the cache has then.
        """
        offers = [(other._offer(prompt), other) for other in others if other is not self]
        length, other = max(offers, key=itemgetter(0), default=(0, self))
        if length < done + _WORTH_SHARING:
            return done
        self.forget()
        self.context.share(other.sequence, self.sequence, length)
        if self._window and not self._take_window(other, length):
            self.forget()
            return 0
        self.tokens.extend(other.tokens[:length])
        return length

    def _offer(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt another sequence can begin with."""
        length = min(self.shared_with(prompt), len(prompt) - 1)
        return length if self._holds_window(length) else self._checkpoints.before(length)

    def _take_window(self, other: Target, length: int) -> bool:
        saved = other._checkpoints.saved(length)
        if saved is not None:
            self._checkpoints.keep(length, saved)
        window = self.context.copy_window(other.sequence) if saved is None else saved
        taken = self.context.restore_window(window, self.sequence)
        self.context.forget_from(length, self.sequence)
        return taken

    def turns_in(self, prompt: Sequence[int]) -> list[int]:
        """Where the last question and its answer begin, in the part that is not in the cache.

        The next prompt may part from this one there: when the question is edited, when it is
        answered again, and when the template removes the thought from the answer.
        """
        done = len(self.tokens)
        turns = [at for at, token in enumerate(prompt) if [token] == self._turn][-2:]
        starts = [done if at - done < _NEAR else at for at in turns if at >= done]
        return [at for at in starts if at >= _NEAR]

    def logits(self) -> Floats:
        """[rows, n_vocab] of the last decode, suppressed tokens masked out."""
        logits = self.context.logits()
        if self.vocab.suppressed.size:
            logits[:, self.vocab.suppressed] = -np.inf
        return logits

    def verify(self, last: int, draft: Sequence[int]) -> Floats:
        """One pass over the pending token and a draft that follows it.

        Args:
            last: the token chosen last, not in the cache yet.
            draft: at most `MAX_DRAFT` proposed tokens.

        Returns:
            Logits [len(draft) + 1, n_vocab]; row i is what follows draft[:i].
        """
        batch, position = self._pass_batch, len(self.tokens)
        batch.fill((last, *draft), position, all_logits=True, sequence=self.sequence)
        self._decode(batch)
        return self.logits()

    def verify_together(self, passes: Sequence[tuple[Target, int, Sequence[int]]]) -> Floats:
        """One pass over the pending tokens and drafts of several sequences of this context.

        Args:
            passes: of each sequence, itself, its pending token and its draft; `most_rows` tokens
                at most.

        Returns:
            Logits [tokens, n_vocab], sequence after sequence; see `verify`.
        """
        batch = self._pass_batch
        batch.clear()
        for target, last, draft in passes:
            position = len(target.tokens)
            batch.add((last, *draft), position, all_logits=True, sequence=target.sequence)
        self._decode(batch)
        return self.logits()

    def _decode(self, batch: Batch) -> None:
        self.context.decode(batch)
        self.threads.look()

    def commit(self, last: int, accepted: Sequence[int], drafted: int, row: int = 0) -> None:
        """Keep the pending token and the accepted drafts of the pass, roll the others back.

        Args:
            last: the pending token.
            accepted: the drafts that are kept.
            drafted: how many there were.
            row: of the pending token in the pass.
        """
        self.tokens.append(last)
        self.tokens.extend(accepted)
        self.hidden[:] = self.context.hidden()[row + len(accepted)]
        if len(accepted) < drafted:
            self.context.forget_from(len(self.tokens), self.sequence)

    def again(self) -> Floats:
        """Decode the last token of the cache once more, in a pass of its own.

        Returns:
            Logits [1, n_vocab]: what follows it.
        """
        last = self.tokens.pop()
        self.context.forget_from(len(self.tokens), self.sequence)
        logits = self.verify(last, ())
        self.commit(last, (), 0)
        return logits
