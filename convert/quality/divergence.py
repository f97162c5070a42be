"""Perplexity of quantized targets, and their KL divergence from the most precise one.

The method is llama-perplexity's: the text is cut into passages of 512 tokens, each evaluated in an
empty context, and the tokens of its second half are predicted. The divergence is
KL(reference ‖ file) of the distributions over the next token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from localmtp.convert.output.gguf_file import require_disk_space
from localmtp.convert.quality.report import TargetScore
from localmtp.engine.llama import Batch, Context, Floats, Model, Offload, TokenIds, Vocab
from localmtp.errors import LocalmtpError

_PASSAGE = 512
"""Tokens per passage."""

_ROWS = 32
"""Rows of logits in memory: 34 MB with Gemma 4's vocabulary."""

_MAX_PASSAGES = 16
"""The reference's distributions are stored on disk: 1 MB for each of 256 tokens per passage."""

_MIN_TOKENS = 64
"""Fewer tokens make the results meaningless."""

Passages = Sequence[Sequence[int]]


def passages(text: str, vocab: Vocab) -> Passages:
    """Tokenize a text and cut it into passages, each with BOS; an incomplete last one is dropped.

    Raises:
        LocalmtpError: the text is too short.
    """
    tokens = vocab.tokenize(text, special=False)
    if len(tokens) < _MIN_TOKENS:
        raise LocalmtpError(
            f"the report's text has {len(tokens)} tokens, at least {_MIN_TOKENS} are needed",
            hint="give a text of a few thousand words",
        )
    size = min(_PASSAGE - 1, len(tokens))
    starts = range(0, len(tokens) - size + 1, size)
    return [[*vocab.opening, *tokens[start : start + size]] for start in starts][:_MAX_PASSAGES]


def score_targets(
    files: Sequence[tuple[Path, str]],
    text: str,
    scratch: Path,
    threads: int,
    progress: Callable[[Path, int, int], None],
) -> tuple[int, list[TargetScore]]:
    """Measure targets against the first of them.

    Args:
        files: (file, quantization) of one model, the reference first.
        text: text to predict.
        scratch: directory for a temporary file with the reference's distributions.
        threads: number of compute threads.
        progress: called with the file, predicted tokens, and total tokens.

    Returns:
        Number of predicted tokens, and a score for each file.

    Raises:
        LocalmtpError: the text is too short, a file cannot be run, or the disk is full.
    """
    with Model(files[0][0], offload=Offload(0)) as model:
        texts, width = passages(text, model.vocab), model.vocab.size
    with TemporaryFile(dir=scratch) as file:
        scorer = _TargetScorer(texts, file, threads, progress)
        require_disk_space(scratch, [scorer.total * width * 4])
        return scorer.total, [scorer.score(path, quant) for path, quant in files]


class _TargetScorer:
    """Scores files on the same passages; the first file scored is the reference."""

    def __init__(
        self,
        texts: Passages,
        reference: IO[bytes],
        threads: int,
        progress: Callable[[Path, int, int], None],
    ) -> None:
        self._texts, self._reference = texts, reference
        self._threads, self._progress = threads, progress
        self._has_reference = False
        self.total = sum(len(_scored(tokens)) for tokens in texts)

    def score(self, path: Path, quant: str) -> TargetScore:
        loss = divergence = 0.0
        done = agreed = 0
        self._reference.seek(0)
        for found, following in _log_probabilities(path, self._texts, self._threads):
            rows = len(following)
            expected = found
            if self._has_reference:
                expected = np.frombuffer(self._reference.read(found.nbytes), np.float32)
                expected = expected.reshape(found.shape)
            else:
                self._reference.write(found.data)
            loss -= float(found[np.arange(rows), following].sum(dtype=np.float64))
            divergence += float((np.exp(expected) * (expected - found)).sum(dtype=np.float64))
            agreed += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
            done += rows
            self._progress(path, done, self.total)
        compared = (divergence / done, agreed / done) if self._has_reference else (None, None)
        self._has_reference = True
        return TargetScore(path.name, quant, float(np.exp(loss / done)), *compared)


def _scored(tokens: Sequence[int]) -> range:
    """Positions whose next token is predicted: the batches of the passage's second half."""
    half = len(tokens) // (2 * _ROWS) * _ROWS
    return range(half, len(tokens) - 1)


def _log_probabilities(
    path: Path, texts: Passages, threads: int
) -> Iterator[tuple[Floats, TokenIds]]:
    """Run a model over the passages.

    Yields:
        For consecutive scored positions: log-probabilities [rows, n_vocab], and the actual next
        tokens [rows].
    """
    with (
        Model(path, offload=Offload(0)) as model,
        Context(model, n_ctx=_PASSAGE, n_batch=_ROWS, n_outputs=_ROWS, threads=threads) as context,
        Batch(_ROWS) as batch,
    ):
        for tokens in texts:
            scored = _scored(tokens)
            context.remove_from(0)
            for start in range(0, len(tokens) - 1, _ROWS):
                batch.fill(tokens[start : start + _ROWS], start, all_logits=start in scored)
                context.decode(batch)
                if start in scored:
                    following = np.array(tokens[start + 1 : start + 1 + _ROWS], np.int32)
                    yield _log_softmax(context.logits()[: len(following)]), following


def _log_softmax(logits: Floats) -> Floats:
    shifted: Floats = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    shifted -= np.log(total).astype(np.float32)
    return shifted
