"""Tensors of Gemma 4: Hugging Face's names, GGUF's names, and shapes.

No matrix is transposed, permuted or fused: llama.cpp reads Gemma 4's matrices unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from localmtp.convert.architectures.gemma4.config import Gemma4Config
from localmtp.convert.architectures.tensor_plan import TensorSlot, TensorTable, fill
from localmtp.engine.llama.ggml import Floats

_UNROTATED = 1e30
"""Rope frequency factor so large that the dimension is not rotated."""

SKIPPED = re.compile(
    r"vision_|audio_|embed_vision|embed_audio|rotary_emb\.inv_freq|^masked_embedding\."
)
"""Tensors that are left out: encoders and projectors, buffers, and the drafter's centroid head,
which llama.cpp does not use (it computes logits of the whole vocabulary)."""

_GLOBAL = (
    ("embed_tokens.weight", "token_embd.weight", "V n"),
    ("norm.weight", "output_norm.weight", "n"),
)
_UNTIED = (("lm_head.weight", "output.weight", "V n"),)
_PLE = (
    ("embed_tokens_per_layer.weight", "per_layer_token_embd.weight", "V P"),
    ("per_layer_model_projection.weight", "per_layer_model_proj.weight", "P n"),
    ("per_layer_projection_norm.weight", "per_layer_proj_norm.weight", "p"),
)
_DRAFTER = (
    ("pre_projection.weight", "nextn.pre_projection.weight", "n 2b"),
    ("post_projection.weight", "nextn.post_projection.weight", "b n"),
)
_LAYER = (
    ("input_layernorm.weight", "attn_norm.weight", "n"),
    ("self_attn.q_proj.weight", "attn_q.weight", "q n"),
    ("self_attn.q_norm.weight", "attn_q_norm.weight", "d"),
    ("self_attn.o_proj.weight", "attn_output.weight", "n q"),
    ("post_attention_layernorm.weight", "post_attention_norm.weight", "n"),
    ("pre_feedforward_layernorm.weight", "ffn_norm.weight", "n"),
    ("post_feedforward_layernorm.weight", "post_ffw_norm.weight", "n"),
    ("mlp.gate_proj.weight", "ffn_gate.weight", "f n"),
    ("mlp.up_proj.weight", "ffn_up.weight", "f n"),
    ("mlp.down_proj.weight", "ffn_down.weight", "n f"),
    ("layer_scalar", "layer_output_scale.weight", "1"),
)
_LAYER_KEYS = (
    ("self_attn.k_proj.weight", "attn_k.weight", "k n"),
    ("self_attn.k_norm.weight", "attn_k_norm.weight", "d"),
)
_LAYER_VALUES = (("self_attn.v_proj.weight", "attn_v.weight", "k n"),)
_LAYER_PLE = (
    ("per_layer_input_gate.weight", "inp_gate.weight", "p n"),
    ("per_layer_projection.weight", "proj.weight", "n p"),
    ("post_per_layer_input_norm.weight", "post_norm.weight", "n"),
)
_LAYER_MOE = (
    ("router.proj.weight", "ffn_gate_inp.weight", "E n"),
    ("router.scale", "ffn_gate_inp.scale", "n"),
    ("router.per_expert_scale", "ffn_down_exps.scale", "E"),
    ("experts.gate_up_proj", "ffn_gate_up_exps.weight", "E 2e n"),
    ("experts.down_proj", "ffn_down_exps.weight", "E n e"),
    ("post_feedforward_layernorm_1.weight", "post_ffw_norm_1.weight", "n"),
    ("post_feedforward_layernorm_2.weight", "post_ffw_norm_2.weight", "n"),
    ("pre_feedforward_layernorm_2.weight", "pre_ffw_norm_2.weight", "n"),
)


def slots(config: Gemma4Config) -> Iterator[TensorSlot]:
    """Yield every tensor that the architecture has or may have."""
    sizes = {
        "1": 1,
        "V": config.vocab,
        "n": config.hidden,
        "p": config.ple,
        "P": config.ple * config.layers,
        "E": config.experts or 0,
        "e": config.expert_ffn or 0,
        "2e": 2 * (config.expert_ffn or 0),
        "b": config.backbone or 0,
        "2b": 2 * (config.backbone or 0),
    }
    tables: list[TensorTable] = [_GLOBAL]
    if config.backbone is not None:
        tables.append(_DRAFTER)
    elif not config.tied:
        tables.append(_UNTIED)
    if config.ple:
        tables.append(_PLE)
    for table in tables:
        yield from fill(table, sizes)
    for layer in range(config.layers):
        head = config.head_dim_at(layer)
        sizes |= {
            "d": head,
            "q": head * config.heads,
            "k": head * config.kv_heads_at(layer),
            "f": config.ffn_at(layer),
        }
        prefixes = f"layers.{layer}.", f"blk.{layer}."
        yield from fill(_LAYER, sizes, *prefixes)
        if config.backbone is None:
            own = not config.shares_kv(layer)
            values = own and (config.sliding[layer] or not config.keys_are_values)
            yield from fill(_LAYER_KEYS, sizes, *prefixes, required=own)
            yield from fill(_LAYER_VALUES, sizes, *prefixes, required=values)
        if config.ple:
            yield from fill(_LAYER_PLE, sizes, *prefixes)
        if config.moe:
            yield from fill(_LAYER_MOE, sizes, *prefixes)


def rope_factors(config: Gemma4Config) -> Floats:
    """[global_head_dim / 2]: 1 where a full-attention head is rotated ("proportional" rope)."""
    rotated = int(config.global_head_dim * config.rotary_factor / 2)
    factors = np.full(config.global_head_dim // 2, _UNROTATED, np.float32)
    factors[:rotated] = 1
    return factors
