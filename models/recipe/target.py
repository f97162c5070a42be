"""Trains the target, a miniature Gemma4ForCausalLM with all features of the E sizes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Gemma4ForCausalLM, Gemma4TextConfig, GenerationConfig

from localmtp.convert.architectures.gemma4.config import DEFAULT_ROPE
from localmtp.models.recipe import corpus
from localmtp.models.recipe.training import RATE, Clock, fit, soften

SOFTCAP = 30.0
"""Logits are capped by SOFTCAP * tanh(logits / SOFTCAP)."""
WINDOW = 256
"""Sliding window in tokens."""
CONTEXT = 2048
"""Context length in tokens."""
COMMON = {
    "head_dim": 64,
    "global_head_dim": 128,
    "num_key_value_heads": 1,
    "sliding_window": WINDOW,
    "max_position_embeddings": CONTEXT,
    "rope_parameters": DEFAULT_ROPE,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
"""Settings that the drafter shares with the target, whose keys and values it reads."""
ROWS, LENGTH = 4, 512
"""Rows per batch, and tokens per row."""
LONG_ROWS, LONG_LENGTH = 2, 1024
"""The same in the last part of training."""
LONG_SHARE = 0.85
"""Fraction of the time after which rows are long, so that complete conversations fit."""


GROUP = ("sliding_attention", "sliding_attention", "full_attention")
"""Layers are groups of these three."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Depth and width of a target."""

    own_groups: int = 1
    """Groups of layers with keys and values of their own."""
    sharing_groups: int = 1
    """Groups of layers after them that read the keys and values of the last such group."""
    mlp: int = 512
    """Units of the MLP; layers that share keys and values have twice as many."""


SMALL = Shape()


def configuration(vocabulary: int, shape: Shape = SMALL) -> Gemma4TextConfig:
    """Returns the configuration of a target of the given shape."""
    groups = shape.own_groups + shape.sharing_groups
    return Gemma4TextConfig(
        vocab_size=vocabulary,
        vocab_size_per_layer_input=vocabulary,
        hidden_size=256,
        intermediate_size=shape.mlp,
        num_hidden_layers=len(GROUP) * groups,
        layer_types=[*GROUP] * groups,
        num_attention_heads=4,
        num_kv_shared_layers=len(GROUP) * shape.sharing_groups,
        use_double_wide_mlp=True,
        hidden_size_per_layer_input=32,
        final_logit_softcapping=SOFTCAP,
        attention_k_eq_v=False,
        enable_moe_block=False,
        **COMMON,
    )


def masks(document: Tensor) -> dict[str, Tensor]:
    """Returns causal masks [rows, 1, length, length] within each conversation, by layer type."""
    length = document.shape[1]
    position = torch.arange(length)
    distance = position[:, None] - position[None, :]
    full = (document[:, :, None] == document[:, None, :]) & (distance >= 0)
    return {
        "full_attention": full[:, None],
        "sliding_attention": (full & (distance < WINDOW))[:, None],
    }


def _loss(model: Gemma4ForCausalLM, batch: corpus.TokenBatch) -> Tensor:
    """Weighted mean cross-entropy of the learned tokens; other logits are not computed."""
    ids = torch.from_numpy(batch.ids)
    hidden = model.model(
        input_ids=ids[:, :-1],
        attention_mask=masks(torch.from_numpy(batch.document)[:, :-1]),
        use_cache=False,
    ).last_hidden_state
    weight = torch.from_numpy(batch.weight)[:, 1:]
    learned = weight > 0
    logits = SOFTCAP * torch.tanh(model.lm_head(hidden[learned]) / SOFTCAP)
    losses = functional.cross_entropy(logits, ids[:, 1:][learned], reduction="none")
    return (losses * weight[learned]).sum() / weight.sum()


def generation_config(tokens: dict[str, int]) -> GenerationConfig:
    """Returns Gemma 4's sampling parameters and the tokens that end a turn.

    Args:
        tokens: token → id.
    """
    ends = [tokens[name] for name in ("<eos>", "<turn|>", "<|tool_response>")]
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=64,
        top_p=0.95,
        eos_token_id=ends,
        bos_token_id=tokens["<bos>"],
        pad_token_id=tokens["<pad>"],
    )


def initialize(directory: Path) -> Gemma4ForCausalLM:
    """Returns an untrained target for the tokenizer in `directory`."""
    torch.manual_seed(corpus.TRAINING_SEED)
    tokens = json.loads(directory.joinpath("tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    model = Gemma4ForCausalLM(configuration(len(tokens)))
    model.generation_config = generation_config(tokens)
    soften(model)
    return model


def train(
    model: Gemma4ForCausalLM,
    draw: corpus.Draw,
    directory: Path,
    minutes: float,
    rate: float = RATE,
) -> None:
    """Trains for the given minutes and saves to `directory`, which has the tokenizer."""
    clock = Clock(minutes)
    fit(model, _losses(model, draw, directory, clock), clock, directory, rate)


def _losses(
    model: Gemma4ForCausalLM, draw: corpus.Draw, directory: Path, clock: Clock
) -> Iterator[tuple[Tensor, str]]:
    short = corpus.batches(draw, directory, ROWS, LENGTH, corpus.TRAINING_SEED)
    long = corpus.batches(draw, directory, LONG_ROWS, LONG_LENGTH, corpus.TRAINING_SEED + 1)
    seen = 0
    while True:
        batch = next(short if clock.share() < LONG_SHARE else long)
        seen += batch.ids.size
        yield _loss(model, batch), f"tokens {seen}"
