"""How well quantized targets still predict a text: perplexity, and divergence from the best one.

As llama-perplexity does it: the text is cut into passages of 512 tokens, each read on its own, and
the second half of each is predicted from what goes before it. The divergence is that of Kullback
and Leibler, of the file's distribution over the next token from the reference's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from localmtp.convert.output.writer import require_room
from localmtp.convert.quality.report import TargetScore
from localmtp.engine.llama import Batch, Context, Floats, Model, TokenIds, Vocab
from localmtp.errors import LocalmtpError

_PASSAGE = 512
_ROWS = 32
"""Logits held at once: 34 MB with Gemma 4's vocabulary."""

_MOST_PASSAGES = 16
"""The reference's distributions are kept on disk, 1 MB for each of 256 tokens of a passage."""

_LEAST = 64
"""Tokens below which figures would say nothing."""

Passages = Sequence[Sequence[int]]


def passages(text: str, vocab: Vocab) -> Passages:
    """Passages of a text as token ids, each with BOS; what is left at its end is not used.

    Raises:
        LocalmtpError: the text is too short.
    """
    tokens = vocab.tokenize(text, special=False)
    if len(tokens) < _LEAST:
        raise LocalmtpError(
            f"the text of the report has {len(tokens)} tokens, too few to measure anything",
            hint="a few thousand words are enough",
        )
    size = min(_PASSAGE - 1, len(tokens))
    starts = range(0, len(tokens) - size + 1, size)
    return [[vocab.bos, *tokens[start : start + size]] for start in starts][:_MOST_PASSAGES]


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
        text: what is to be predicted.
        scratch: a directory with room for the reference's distributions.
        threads: to run them on.
        progress: is told the file, and how many of how many tokens are predicted.

    Returns:
        How many tokens were predicted, and a score for each file.

    Raises:
        LocalmtpError: the text is too short, a file cannot be run, or the disk is full.
    """
    with Model(files[0][0], gpu_layers=0) as model:
        texts, width = passages(text, model.vocab), model.vocab.size
    with TemporaryFile(dir=scratch) as file:
        examination = _Examination(texts, file, threads, progress)
        require_room(scratch, [examination.total * width * 4])
        return examination.total, [examination.score(path, quant) for path, quant in files]


class _Examination:
    """The passages, and what the first file that is scored says of them: the reference."""

    def __init__(
        self,
        texts: Passages,
        kept: IO[bytes],
        threads: int,
        progress: Callable[[Path, int, int], None],
    ) -> None:
        self._texts, self._kept = texts, kept
        self._threads, self._progress = threads, progress
        self._has_reference = False
        self.total = sum(len(_scored(tokens)) for tokens in texts)

    def score(self, path: Path, quant: str) -> TargetScore:
        loss = divergence = 0.0
        done = agreed = 0
        self._kept.seek(0)
        for said, following in _log_probabilities(path, self._texts, self._threads):
            rows = len(following)
            expected = said
            if self._has_reference:
                expected = np.frombuffer(self._kept.read(said.nbytes), np.float32)
                expected = expected.reshape(said.shape)
            else:
                self._kept.write(said.data)
            loss -= float(said[np.arange(rows), following].sum(dtype=np.float64))
            divergence += float((np.exp(expected) * (expected - said)).sum(dtype=np.float64))
            agreed += int((said.argmax(axis=1) == expected.argmax(axis=1)).sum())
            done += rows
            self._progress(path, done, self.total)
        compared = (divergence / done, agreed / done) if self._has_reference else (None, None)
        self._has_reference = True
        return TargetScore(path.name, quant, float(np.exp(loss / done)), *compared)


def _scored(tokens: Sequence[int]) -> range:
    """Positions of a passage whose next token is predicted: those of its second half's batches."""
    half = len(tokens) // (2 * _ROWS) * _ROWS
    return range(half, len(tokens) - 1)


def _log_probabilities(
    path: Path, texts: Passages, threads: int
) -> Iterator[tuple[Floats, TokenIds]]:
    """Run a model over the passages.

    Yields:
        For some consecutive scored positions their log-probabilities [rows, n_vocab], and the
        tokens [rows] that followed.
    """
    with (
        Model(path, gpu_layers=0) as model,
        Context(model, n_ctx=_PASSAGE, n_batch=_ROWS, n_outputs=_ROWS, threads=threads) as context,
        Batch(_ROWS) as batch,
    ):
        for tokens in texts:
            scored = _scored(tokens)
            context.forget_from(0)
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
