"""The program of a trial load: `python -m localmtp.engine.smoke_test ORDER`, see `trial`.

ORDER is a JSON object. Prints `trying PATH` before a file is used and `error MESSAGE` for what is
wrong with it; ends with 1 then.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from localmtp.engine.compatibility import CROPPED_HEADS, FIRST_TENSOR
from localmtp.engine.llama import Batch, Context, Floats, Model, Offload, holds_tensor
from localmtp.engine.llama.ggml import on_abort
from localmtp.engine.llama.residency import few_pages_resident
from localmtp.engine.llama.vocabulary_file import VocabularyFile
from localmtp.errors import LocalmtpError
from localmtp.portability import limit_cpu_time

_PROMPT = 8
"""Number of tokens in the test pass."""

_CONTEXT = 64

_IMAGE_TOKENS = 9
"""Tokens of the test image: 3 x 3, the fewest that every operation of a tower can work on."""

_IMAGE_SIDE = 144


def main(order: dict[str, Any]) -> None:
    """Loads a file; runs a target over a few tokens, a drafter one step after those.

    A file with an MTP head alone runs a step without its target. A projector encodes an image and
    a second of sound for its target, which is loaded and not run.

    Args:
        order: `threads`; `cpu_s`, a limit of CPU time in seconds; `model`, or `projector` with the
            path of one, and perhaps `target`, each with a `path` and perhaps a `vocabulary`.

    Raises:
        LocalmtpError: libllama cannot load or run it, or its logits are not finite.
    """
    limit_cpu_time(order["cpu_s"])
    threads = order["threads"]
    with ExitStack() as loaded, few_pages_resident():
        if "projector" in order:
            target = loaded.enter_context(_load(order["target"]))
            _encode(Path(order["projector"]), target, threads)
            return
        drafter, own = order["model"], order["target"]
        in_file = own is not None and own["path"] == drafter["path"]
        alone = own is None and not holds_tensor(Path(drafter["path"]), FIRST_TENSOR)
        model = loaded.enter_context(_load(drafter, heads=alone or own is not None))
        if alone and model.n_heads:
            _try_drafts(model, None, threads, loaded)
        elif own is None and "assistant" not in model.architecture:
            _require_finite(_run_target(model, threads, loaded).logits(), model.path)
        elif own is not None:
            target = model if in_file else loaded.enter_context(_load(own))
            context = _run_target(target, threads, loaded)
            _require_finite(context.logits(), target.path)
            print(f"trying {model.path}", flush=True)
            _try_drafts(model, context, threads, loaded)


def _load(source: dict[str, Any], *, heads: bool = False) -> Model:
    print(f"trying {source['path']}", flush=True)
    corrected = source.get("vocabulary")
    vocabulary = None
    if corrected:
        path, architecture = Path(corrected["path"]), corrected["architecture"]
        vocabulary = VocabularyFile(path, architecture, corrected["size"])
    # Weights stay mapped: repacking them for speed would fill the memory.
    return Model(
        Path(source["path"]), offload=Offload(0), repack=False, vocabulary=vocabulary, heads=heads
    )


def _encode(projector: Path, target: Model, threads: int) -> None:
    from localmtp.engine.llama.mtmd import Tower

    print(f"trying {projector}", flush=True)
    with Tower(
        projector, target, threads=threads, image_tokens=_IMAGE_TOKENS, use_gpu=False
    ) as tower:
        if tower.sees:
            gray = bytes([128]) * (3 * _IMAGE_SIDE**2)
            _require_finite(tower.encode_image(_IMAGE_SIDE, _IMAGE_SIDE, gray), projector)
        if tower.hears:
            noise = np.random.default_rng(0).normal(0, 0.1, tower.sample_rate)
            _require_finite(tower.encode_sound(noise.astype(np.float32)), projector)


def _run_target(model: Model, threads: int, loaded: ExitStack) -> Context:
    context = loaded.enter_context(_context(model, threads))
    vocab = model.vocab
    tokens = [max(0, vocab.bos), *(i * vocab.size // _PROMPT for i in range(1, _PROMPT))]
    with Batch(_PROMPT) as batch:
        batch.fill(tokens, 0, all_logits=False)
        context.decode(batch)
    return context


def _try_drafts(drafter: Model, target: Context | None, threads: int, loaded: ExitStack) -> None:
    heads = [None] if "assistant" in drafter.architecture else range(max(1, drafter.n_heads))
    for head in heads:
        _require_finite(_draft(drafter, target, threads, loaded, head), drafter.path)


def _draft(
    drafter: Model, target: Context | None, threads: int, loaded: ExitStack, head: int | None
) -> Floats:
    """Run one draft step after the target's tokens; returns logits [1, n_vocab]."""
    context = loaded.enter_context(_context(drafter, threads, target, head=head))
    model = target.model if target else drafter
    with Batch(1, n_embd=model.n_embd_out) as batch:
        batch.fill([max(0, model.vocab.bos)], _PROMPT, all_logits=True)
        batch.hidden[0] = target.hidden()[0] if target else 0
        context.decode(batch)
    return context.logits()


def _context(
    model: Model, threads: int, target: Context | None = None, *, head: int | None = None
) -> Context:
    return Context(
        model,
        n_ctx=_CONTEXT,
        n_batch=_PROMPT,
        n_outputs=1,
        threads=threads,
        target=target if head is None else None,
        head=head,
        all_hidden=head is not None and model.architecture not in CROPPED_HEADS,
    )


def _require_finite(output: Floats, path: Path) -> None:
    if not np.isfinite(output).all():
        raise LocalmtpError(f"{path} can be loaded, but its output is not finite")


def _write_reason(reason: str) -> None:
    """Leaves the end of the process to libllama: the parent reads how it ended."""
    os.write(2, reason.encode("utf-8", "replace") + b"\n")


if __name__ == "__main__":
    on_abort(_write_reason)
    try:
        main(json.loads(sys.argv[1]))
    except LocalmtpError as error:
        sys.exit(print("error", *error.message.split()) or 1)
