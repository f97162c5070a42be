"""The model whose output is wanted: prefill, verify, roll back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

import numpy as np

from localmtp.engine.checkpoints import Checkpoints
from localmtp.engine.kv_type import KVType
from localmtp.engine.llama import Batch, Context, Floats, Model
from localmtp.engine.stats import MAX_DRAFT

BATCH = 512
"""Rows of the largest prefill batch: libllama's own default, where GPUs are near their peak."""

_FIRST_BATCH, _BATCH_S = 128, 0.5
"""Prefill is cut into batches of about half a second, so that it can be stopped and followed."""

_TURN = "<|turn>"
"""Opens every turn of Gemma 4's template."""

_NEAR = 16
"""Tokens that are not worth a batch, and so a pass, of their own."""


class Target:
    """A target's context and the tokens in it.

    Args:
        model: a Gemma 4 target; stays the caller's to close.
        n_ctx: positions.
        batch: rows of the largest prefill batch.
        threads: CPU threads.
        full_window: see `Context`.
        kv_type: of the KV cache.

    Between calls the cache holds `tokens`, perhaps followed by leftovers of a pass that was
    interrupted; `prefill` drops those.
    """

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        batch: int = BATCH,
        threads: int,
        full_window: bool,
        kv_type: KVType = KVType.F16,
    ) -> None:
        self.model = model
        self.vocab = model.vocab
        self.context = Context(
            model,
            n_ctx=n_ctx,
            n_batch=min(batch, n_ctx),
            n_outputs=MAX_DRAFT + 1,
            threads=threads,
            full_window=full_window,
            kv_type=kv_type,
        )
        self.tokens: list[int] = []
        self.hidden: Floats = np.zeros(model.n_embd, np.float32)
        """[n_embd]: the hidden state that produced the token to come."""
        self._window = 0 if full_window else model.n_swa
        self._turn = self.vocab.tokenize(_TURN, special=True)
        self._checkpoints = Checkpoints(self.context)
        self._prompt_batch = Batch(min(batch, n_ctx))
        self._pass_batch = Batch(MAX_DRAFT + 1)

    def close(self) -> None:
        """Free the context and the batches."""
        self._pass_batch.close()
        self._prompt_batch.close()
        self.context.close()

    def prefill(self, prompt: Sequence[int]) -> Iterator[int]:
        """Bring the prompt into the cache, reusing what it shares with the one there.

        Args:
            prompt: at least one token, and fewer than the context has positions.

        Yields:
            How many prompt tokens are in the cache: first the reused ones, then after each batch.
        """
        shared = _shared(self.tokens, prompt)
        self._checkpoints.forget_after(shared)
        done = self._go_back(min(shared, len(prompt) - 1))  # the last token's logits are needed
        yield done
        most = len(self._prompt_batch.tokens)
        rows = min(most, _FIRST_BATCH)
        for end in (*self._turns_in(prompt), len(prompt)):
            while done < end:
                began = perf_counter()
                part = prompt[done : min(end, done + rows)]
                self._prompt_batch.fill(part, done, all_logits=False)
                self.context.decode(self._prompt_batch)
                self.logits()
                self.tokens.extend(part)
                done += len(part)
                rate = len(part) / (perf_counter() - began)
                rows = min(most, max(_FIRST_BATCH // 4, int(rate * _BATCH_S)))
                yield done
            if self._window and end < len(prompt):
                self._checkpoints.save(done)
        np.copyto(self.hidden, self.context.hidden()[0])

    def forget(self) -> None:
        """Empty the cache and drop the checkpoints."""
        self._checkpoints.forget_after(0)
        self.context.forget_from(0)
        self.tokens.clear()

    def _go_back(self, length: int) -> int:
        """Cut the cache to `length` tokens, or to fewer where what they need is gone.

        Returns:
            How many are left.
        """
        needed = max(0, length - self._window + 1)
        lost = self._window and self.context.earliest_position() > needed
        if lost and length < len(self.tokens):
            length = self._checkpoints.restore(length)
        self.context.forget_from(length)
        del self.tokens[length:]
        return length

    def _turns_in(self, prompt: Sequence[int]) -> list[int]:
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
        self._pass_batch.fill((last, *draft), len(self.tokens), all_logits=True)
        self.context.decode(self._pass_batch)
        return self.logits()

    def commit(self, last: int, accepted: Sequence[int], drafted: int) -> None:
        """Keep the pending token and the accepted drafts of the pass, roll the others back."""
        self.tokens.append(last)
        self.tokens.extend(accepted)
        np.copyto(self.hidden, self.context.hidden()[len(accepted)])
        if len(accepted) < drafted:
            self.context.forget_from(len(self.tokens))

    def again(self) -> Floats:
        """Decode the last token of the cache once more, in a pass of its own.

        Returns:
            Logits [1, n_vocab]: what follows it.
        """
        last = self.tokens.pop()
        self.context.forget_from(len(self.tokens))
        logits = self.verify(last, ())
        self.commit(last, (), 0)
        return logits


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common beginning."""
    most = min(len(one), len(other))
    return next((i for i in range(most) if one[i] != other[i]), most)
