"""Tries a file in a process of its own.

`python -m localmtp.engine.smoke_test THREADS FILE [TARGET]` prints an error and exits with 1, or
prints nothing.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from localmtp.engine.llama import Batch, Context, Floats, Model
from localmtp.engine.llama.residency import few_pages_resident
from localmtp.errors import LocalmtpError

_PROMPT = 8
"""Number of tokens in the test pass."""

_CONTEXT = 64


def main(threads: int, path: Path, target: Path | None) -> None:
    """Load the file and run it: a target decodes a few tokens, a drafter drafts one after them.

    Raises:
        LocalmtpError: libllama cannot load or run it, or its logits are not finite.
    """
    with ExitStack() as loaded, few_pages_resident():
        model = loaded.enter_context(_load(path))
        if "assistant" not in model.architecture:
            _require_finite(_run_target(model, threads, loaded).logits(), path)
        elif target is not None:
            context = _run_target(loaded.enter_context(_load(target)), threads, loaded)
            _require_finite(_draft(model, context, threads, loaded), path)


def _load(path: Path) -> Model:
    # Weights stay mapped: repacking them for speed would fill the memory.
    return Model(path, gpu_layers=0, repack=False)


def _run_target(model: Model, threads: int, loaded: ExitStack) -> Context:
    context = loaded.enter_context(_context(model, threads))
    vocab = model.vocab
    tokens = [vocab.bos, *(i * vocab.size // _PROMPT for i in range(1, _PROMPT))]
    with Batch(_PROMPT) as batch:
        batch.fill(tokens, 0, all_logits=False)
        context.decode(batch)
    return context


def _draft(drafter: Model, target: Context, threads: int, loaded: ExitStack) -> Floats:
    """Run one draft step on the target's KV cache; returns logits [1, n_vocab]."""
    context = loaded.enter_context(_context(drafter, threads, target))
    with Batch(1, n_embd=target.model.n_embd) as batch:
        batch.fill([target.model.vocab.bos], _PROMPT, all_logits=True)
        batch.hidden[0] = target.hidden()[0]
        context.decode(batch)
    return context.logits()


def _context(model: Model, threads: int, target: Context | None = None) -> Context:
    return Context(
        model, n_ctx=_CONTEXT, n_batch=_PROMPT, n_outputs=1, threads=threads, target=target
    )


def _require_finite(logits: Floats, path: Path) -> None:
    if not np.isfinite(logits).all():
        raise LocalmtpError(f"{path} can be loaded, but its logits are not finite")


if __name__ == "__main__":
    _threads, _path, _target = sys.argv[1:]
    try:
        main(int(_threads), Path(_path), Path(_target) if _target else None)
    except LocalmtpError as error:
        sys.exit(print(error.message) or 1)
