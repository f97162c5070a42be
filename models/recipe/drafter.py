"""Builds the drafter, a Gemma4AssistantForCausalLM that reads the target's keys and values."""

import torch
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4ForCausalLM,
    GenerationConfig,
)

from localmtp.models.recipe import corpus
from localmtp.models.recipe.target import COMMON
from localmtp.models.recipe.training import soften

SLIDING_LAYERS = 3
"""Sliding-window layers of the drafter, before its full one."""


def configuration(
    target: Gemma4ForCausalLM, sliding: int = SLIDING_LAYERS
) -> Gemma4AssistantConfig:
    """Returns the configuration: sliding-window layers and a full one, without a KV cache."""
    return Gemma4AssistantConfig(
        text_config={
            "vocab_size": target.config.vocab_size,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": sliding + 1,
            "layer_types": ["sliding_attention"] * sliding + ["full_attention"],
            "num_attention_heads": target.config.num_attention_heads,
            "num_kv_shared_layers": sliding + 1,
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
            "enable_moe_block": False,
            "use_double_wide_mlp": False,
            **COMMON,
        },
        backbone_hidden_size=target.config.hidden_size,
        # llama.cpp does not use the centroid head: it computes logits of the whole vocabulary.
        use_ordered_embeddings=False,
    )


def initialize(target: Gemma4ForCausalLM) -> Gemma4AssistantForCausalLM:
    """Returns an untrained drafter; its output head has the target's principal components."""
    torch.manual_seed(corpus.DISTILLATION_SEED)
    drafter = Gemma4AssistantForCausalLM(configuration(target))
    drafter.generation_config = GenerationConfig(
        **{
            **target.generation_config.to_dict(),
            "num_assistant_tokens": 4,
            "num_assistant_tokens_schedule": "constant",
            "is_assistant": True,
        }
    )
    soften(drafter)
    table = target.lm_head.weight.detach()
    width = drafter.lm_head.weight.shape[1]
    components = torch.linalg.svd(table, full_matrices=False)[2][:width]
    with torch.no_grad():
        drafter.lm_head.weight.copy_(table @ components.T)
        drafter.pre_projection.weight[:, table.shape[1] :].copy_(components)
        drafter.post_projection.weight.copy_(components.T)
    return drafter


def shorten(
    drafter: Gemma4AssistantForCausalLM, target: Gemma4ForCausalLM, sliding: int
) -> Gemma4AssistantForCausalLM:
    """Returns a drafter of the first sliding-window layers and the full one, to be distilled again.

    Args:
        drafter: the drafter to shorten.
        target: its target.
        sliding: sliding-window layers of the result.
    """
    short = Gemma4AssistantForCausalLM(configuration(target, sliding))
    short.generation_config = drafter.generation_config
    layers = drafter.model.layers
    with torch.no_grad():
        for name, value in short.named_parameters():
            if not name.startswith("model.layers."):
                value.copy_(drafter.get_parameter(name))
    for index, layer in enumerate(short.model.layers):
        layer.load_state_dict(layers[index if index < sliding else -1].state_dict())
    return short
