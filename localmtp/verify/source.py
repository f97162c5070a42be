"""A GGUF's target against the checkpoint that it was made from, as transformers runs that.

Both read the same token ids; at every position their distributions over the next token are
compared. What quantization does to them is small and known; a tensor in the wrong place, a lost
setting or another model's checkpoint is not.
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
from localmtp.limits import MAX_DRAFT

_IMPOSSIBLE = -1e9
"""A logit, for tokens that a GGUF never generates, on both sides."""

_NOT_QUANTIZED = ("0", "1", "32")  # `general.file_type` of F32, F16 and BF16
_EIGHT_BITS = "7"  # of Q8_0

_BOUNDS = (0.01, 0.05, 0.5)
"""Mean divergence, in nats, that is still explained: by rounding, by eight bits, by fewer. Another
layer order or a missing tensor costs several nats; two bits cost a few tenths."""


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """What was found; divergences are Kullback and Leibler's, of the file from the checkpoint."""

    positions: int
    agreement: float
    """Share of positions where both prefer the same token."""
    divergence: float
    """Mean, in nats."""
    worst: float
    bound: float
    """The mean divergence that the file's type explains."""

    @property
    def passed(self) -> bool:
        """Whether it is the same model."""
        return self.divergence < self.bound


def require_transformers() -> None:
    """Refuse early.

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
    """Compare on texts.

    Args:
        sequence: of the GGUF, loaded.
        texts: token ids, each beginning with BOS and as long as the context at most.
        directory: the checkpoint in Hugging Face's layout; it is loaded at 4 bytes per weight.

    Raises:
        LocalmtpError: transformers cannot load it, or its vocabulary has another size.
    """
    target = sequence.context
    model = _load(directory)
    agreed: list[bool] = []
    divergences: list[float] = []
    for text in texts:
        theirs = _their_logits(model, text)
        if theirs.shape[1] != target.vocab.size:
            raise LocalmtpError(
                f"{directory} has {theirs.shape[1]} tokens, {target.model.path} {target.vocab.size}"
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
        # Local files alone: a directory that is not there must not be looked for on the hub.
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise LocalmtpError(f"transformers cannot load {directory}: {error}") from error
    return model.eval()


def _their_logits(model: Any, text: Sequence[int]) -> Floats:
    """[len(text), n_vocab]."""
    import torch

    with torch.inference_mode():
        logits: Floats = model(torch.tensor([list(text)])).logits[0].numpy()
    return logits


def _our_logits(sequence: TargetSequence, text: Sequence[int]) -> Iterator[Floats]:
    """[n_vocab] after every token but the first."""
    prefill(sequence, text[:1])
    for start in range(1, len(text), MAX_DRAFT + 1):
        first, *rest = text[start : start + MAX_DRAFT + 1]
        yield from sequence.verify(first, rest).copy()
        sequence.commit(first, rest, len(rest))


def _compare(ours: Floats, theirs: Floats, suppressed: TokenIds) -> tuple[float, bool]:
    """Divergence, and whether the favourites agree."""
    p, q = _log_probabilities(theirs, suppressed), _log_probabilities(ours, suppressed)
    divergence = max(0.0, float((np.exp(p) * (p - q)).sum()))
    return divergence, bool(p.argmax() == q.argmax())


def _log_probabilities(logits: Floats, suppressed: TokenIds) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide[suppressed] = _IMPOSSIBLE
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide
