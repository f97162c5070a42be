"""Compares a GGUF target with the checkpoint it was converted from, run by transformers.

Both decode the same token ids; at every position their next-token distributions are compared. The
effect of quantization is small and known; that of a misplaced tensor, a missing setting or a
checkpoint of another model is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.llama import Floats, TokenIds
from localmtp.errors import LocalmtpError

_IMPOSSIBLE = -1e9
"""Logit of tokens that a GGUF never generates, on both sides."""

_NOT_QUANTIZED = ("0", "1", "32")  # `general.file_type` of F32, F16 and BF16
_EIGHT_BITS = "7"  # of Q8_0

_BOUNDS = (0.01, 0.05, 0.5)
"""Upper bounds of the mean divergence in nats: for rounding, eight bits, fewer bits. A wrong layer
order or a missing tensor costs several nats, quantization to two bits a few tenths."""


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """Result of the comparison: Kullback-Leibler divergences of the file from the checkpoint."""

    positions: int
    """Number of positions compared."""
    agreement: float
    """Share of positions with the same most probable token."""
    divergence: float
    """Mean, in nats."""
    worst: float
    """Maximum, in nats."""
    bound: float
    """Upper bound of the mean divergence for the file's quantization type."""

    @property
    def passed(self) -> bool:
        """Whether the mean divergence is below the bound."""
        return self.divergence < self.bound


def require_transformers() -> None:
    """Check that transformers is installed.

    Raises:
        LocalmtpError: transformers or torch is not installed.
    """
    for name in ("torch", "transformers"):
        if find_spec(name) is None:
            raise LocalmtpError(
                f"running a checkpoint needs {name}, which is not installed",
                hint="pip install 'localmtp[train]'",
            )


def check_source(
    sequence: TargetSequence, texts: Sequence[Sequence[int]], directory: Path
) -> SourceCheck:
    """Compare a target with a checkpoint.

    Args:
        sequence: of the loaded GGUF.
        texts: token ids, each beginning with BOS and no longer than the context.
        directory: the checkpoint in Hugging Face's layout; loaded at 4 bytes per weight.

    Raises:
        LocalmtpError: transformers cannot load it, or its vocabulary has a different size.
    """
    target = sequence.context
    model = _load(directory)
    agreed: list[bool] = []
    divergences: list[float] = []
    for text in texts:
        theirs = _their_logits(model, text)
        if theirs.shape[1] != target.vocab.size:
            raise LocalmtpError(
                f"{directory} has {theirs.shape[1]} tokens in its vocabulary, "
                f"{target.model.path} has {target.vocab.size}"
            )
        for ours, expected in zip(_our_logits(sequence, text), theirs[1:], strict=True):
            divergence, same = _compare(ours, expected, target.vocab.suppressed)
            divergences.append(divergence)
            agreed.append(same)
    kind = target.model.metadata.get("general.file_type", "")
    bound = _BOUNDS[0 if kind in _NOT_QUANTIZED else 1 if kind == _EIGHT_BITS else 2]
    return SourceCheck(len(agreed), fmean(agreed), fmean(divergences), max(divergences), bound)


def _load(directory: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # A missing directory must not be looked up on the hub.
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise LocalmtpError(f"transformers cannot load {directory}: {error}") from error
    return model.eval()


def _their_logits(model: Any, text: Sequence[int]) -> Floats:
    """Return the checkpoint's logits: [len(text), n_vocab]."""
    import torch

    with torch.inference_mode():
        logits: Floats = model(torch.tensor([list(text)])).logits[0].numpy()
    return logits


def _our_logits(sequence: TargetSequence, text: Sequence[int]) -> Iterator[Floats]:
    """Yield the target's logits after every token but the first: [n_vocab]."""
    prefill(sequence, text[:1])
    rows = sequence.context.max_draft + 1
    for start in range(1, len(text), rows):
        first, *rest = text[start : start + rows]
        yield from sequence.verify(first, rest).copy()
        sequence.commit(first, rest, len(rest))


def _compare(ours: Floats, theirs: Floats, suppressed: TokenIds) -> tuple[float, bool]:
    """Return the divergence in nats, and whether the most probable tokens are equal."""
    p, q = _log_probs(theirs, suppressed), _log_probs(ours, suppressed)
    divergence = max(0.0, float((np.exp(p) * (p - q)).sum()))
    return divergence, bool(p.argmax() == q.argmax())


def _log_probs(logits: Floats, suppressed: TokenIds) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide[suppressed] = _IMPOSSIBLE
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide
