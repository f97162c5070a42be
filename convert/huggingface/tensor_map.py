"""Mapping from Hugging Face's tensors to GGUF's: names, shapes, and what is stored as F32.

No matrix is transposed, permuted or fused: llama.cpp reads Gemma 4's matrices unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.config import Gemma4Config
from localmtp.convert.huggingface.safetensors import GGML_TYPES, StoredTensor
from localmtp.engine.llama.ggml import F32, Floats
from localmtp.errors import LocalmtpError

_UNROTATED = 1e30
"""Rope frequency factor so large that the dimension is not rotated."""

_MAX_WIDTH = 1 << 20
"""Widest row, of which two are in memory when types are chosen; Gemma 4 has 43,008 at most."""

_Table = tuple[tuple[str, str, str], ...]
"""Rows of Hugging Face name, GGUF name, and shape in the symbols of `_slots`."""


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of the GGUF file."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as in the checkpoint."""
    source: StoredTensor | Floats
    """The tensor in the checkpoint, or the values themselves."""

    @property
    def stays_f32(self) -> bool:
        """Whether it is stored as F32: vectors, norms and routers, small and sensitive."""
        return (
            len(self.shape) == 1
            or self.name.endswith("_norm.weight")
            or "ffn_gate_inp" in self.name
            or not self.name.endswith(".weight")
        )


def plan_tensors(config: Gemma4Config, checkpoint: Checkpoint) -> list[PlannedTensor]:
    """List the tensors of the GGUF file in llama.cpp's order.

    Raises:
        LocalmtpError: a tensor is missing, does not belong to the architecture, or contradicts the
            configuration in shape or data type.
    """
    stored = {_plain_name(name): tensor for name, tensor in checkpoint.tensors.items()}
    if config.tied or config.backbone is not None:
        stored.pop("lm_head.weight", None)
    planned = [
        PlannedTensor("rope_freqs.weight", (config.global_head_dim // 2,), _rope_factors(config))
    ]
    for slot in _slots(config):
        source = stored.pop(slot.hf_name, None)
        if source is None and slot.required:
            raise LocalmtpError(f"{checkpoint.directory} has no tensor {slot.hf_name}")
        if source is not None:
            _check(source, slot)
            planned.append(PlannedTensor(slot.name, source.shape, source))
    for name, source in stored.items():
        if not _SKIPPED.search(name):
            raise LocalmtpError(
                f"{source.file}: {source.name} is not a tensor of {config.hf_class}",
                hint="quantized checkpoints, adapters and other architectures cannot be converted",
            )
    return sorted(planned, key=_llama_cpp_order)


def required_shapes(config: Gemma4Config) -> dict[str, tuple[int, ...]]:
    """Hugging Face name → shape of every tensor that a checkpoint must have."""
    return {slot.hf_name: slot.shape for slot in _slots(config) if slot.required}


def source_type(tensors: list[PlannedTensor]) -> int:
    """The `ggml_type` that stores every matrix of the checkpoint without loss."""
    kinds = {
        GGML_TYPES[t.source.dtype]
        for t in tensors
        if isinstance(t.source, StoredTensor) and not t.stays_f32
    }
    return kinds.pop() if len(kinds) == 1 else F32


@dataclass(frozen=True, slots=True)
class _TensorSlot:
    """A tensor that the architecture has, or may have."""

    hf_name: str
    name: str
    shape: tuple[int, ...]
    required: bool


_SKIPPED = re.compile(
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


def _slots(config: Gemma4Config) -> Iterator[_TensorSlot]:
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
    tables: list[_Table] = [_GLOBAL]
    if config.backbone is not None:
        tables.append(_DRAFTER)
    elif not config.tied:
        tables.append(_UNTIED)
    if config.ple:
        tables.append(_PLE)
    for table in tables:
        yield from _fill(table, sizes, "", "", required=True)
    for layer in range(config.layers):
        head = config.head_dim_at(layer)
        sizes |= {
            "d": head,
            "q": head * config.heads,
            "k": head * config.kv_heads_at(layer),
            "f": config.ffn_at(layer),
        }
        prefixes = f"layers.{layer}.", f"blk.{layer}."
        yield from _fill(_LAYER, sizes, *prefixes, required=True)
        if config.backbone is None:
            own = not config.shares_kv(layer)
            values = own and (config.sliding[layer] or not config.keys_are_values)
            yield from _fill(_LAYER_KEYS, sizes, *prefixes, required=own)
            yield from _fill(_LAYER_VALUES, sizes, *prefixes, required=values)
        if config.ple:
            yield from _fill(_LAYER_PLE, sizes, *prefixes, required=True)
        if config.moe:
            yield from _fill(_LAYER_MOE, sizes, *prefixes, required=True)


def _fill(
    table: _Table,
    sizes: Mapping[str, int],
    hf_prefix: str,
    prefix: str,
    *,
    required: bool,
) -> Iterator[_TensorSlot]:
    for hf_name, name, shape in table:
        dimensions = tuple(sizes[symbol] for symbol in shape.split())
        if dimensions[-1] > _MAX_WIDTH:
            raise LocalmtpError(
                f"config.json requires a width of {dimensions[-1]} for {hf_prefix}{hf_name}",
                hint=f"widths of up to {_MAX_WIDTH} are supported",
            )
        yield _TensorSlot(hf_prefix + hf_name, prefix + name, dimensions, required)


def _plain_name(name: str) -> str:
    """Strip the prefix: `model.language_model.layers.0.x` → `layers.0.x`."""
    return name.replace("language_model.", "").removeprefix("model.")


def _check(source: StoredTensor, slot: _TensorSlot) -> None:
    if source.dtype not in GGML_TYPES:
        raise LocalmtpError(
            f"{source.file}: {source.name} is {source.dtype}",
            hint=f"supported data types: {', '.join(GGML_TYPES)}",
        )
    if source.shape != slot.shape:
        raise LocalmtpError(
            f"{source.file}: {source.name} has the shape {list(source.shape)}, "
            f"but config.json requires {list(slot.shape)}"
        )


def _rope_factors(config: Gemma4Config) -> Floats:
    """[global_head_dim / 2]: 1 where a full-attention head is rotated ("proportional" rope)."""
    rotated = int(config.global_head_dim * config.rotary_factor / 2)
    factors = np.full(config.global_head_dim // 2, _UNROTATED, np.float32)
    factors[:rotated] = 1
    return factors


def _llama_cpp_order(tensor: PlannedTensor) -> tuple[int, str]:
    """Sort key of llama.cpp's quantizer: by layer, then by name."""
    layer = re.match(r"blk\.(\d+)\.", tensor.name)
    return int(layer[1]) if layer else -1, tensor.name
