"""The proof that a file works: libllama loads it, and a short forward pass is finite."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from localmtp.engine.llama import Batch, Context, Floats, Model
from localmtp.errors import LocalmtpError

_PROMPT = 8
"""Tokens of the forward pass."""

_CONTEXT = 64


def fits_memory(size: int) -> bool:
    """Whether a file of `size` bytes can be loaded beside what else a machine does."""
    return size < 0.7 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_target(path: Path, threads: int) -> None:
    """Load a target and run it over a few tokens.

    Args:
        path: the GGUF file; of a model in parts, the first.
        threads: to run it on.

    Raises:
        LocalmtpError: libllama refuses it, or its logits are not finite.
    """
    with Model(path, gpu_layers=0) as model, _context(model, threads) as context:
        _run_target(context)
        _require_finite(context.logits(), path)


def check_drafter(path: Path, target: Path | None, threads: int) -> None:
    """Load a drafter, and let it draft a token where there is a target.

    Args:
        path: the drafter's file.
        target: its target's, where that can be run.
        threads: to run them on.

    Raises:
        LocalmtpError: libllama refuses it, alone or with the target, or its logits are not finite.
    """
    with Model(path, gpu_layers=0) as drafter:
        if target is None:
            return
        with Model(target, gpu_layers=0) as model, _context(model, threads) as context:
            _run_target(context)
            with (
                _context(drafter, threads, context) as drafting,
                Batch(1, n_embd=model.n_embd) as batch,
            ):
                batch.fill([model.vocab.bos], _PROMPT, all_logits=True)
                batch.hidden[0] = context.hidden()[0]
                drafting.decode(batch)
                _require_finite(drafting.logits(), path)


def _context(model: Model, threads: int, target: Context | None = None) -> Context:
    return Context(
        model, n_ctx=_CONTEXT, n_batch=_PROMPT, n_outputs=1, threads=threads, target=target
    )


def _run_target(context: Context) -> None:
    vocab = context.model.vocab
    tokens = [vocab.bos, *(i * vocab.size // _PROMPT for i in range(1, _PROMPT))]
    with Batch(_PROMPT) as batch:
        batch.fill(tokens, 0, all_logits=False)
        context.decode(batch)


def _require_finite(logits: Floats, path: Path) -> None:
    if not np.isfinite(logits).all():
        raise LocalmtpError(f"{path} can be loaded, but its logits are not finite")
