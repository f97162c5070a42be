"""From Hugging Face's tensors to GGUF's: names, shapes, and what stays at full precision.

Nothing is transposed, permuted or fused: llama.cpp takes Gemma 4's matrices as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from localmtp.convert.huggingface.architecture import Spec
from localmtp.convert.huggingface.checkpoint import KINDS, Checkpoint, StoredTensor
from localmtp.engine.llama.ggml import F32, Floats
from localmtp.errors import LocalmtpError

_UNROTATED = 1e30
"""A rope frequency factor so large that the dimension does not turn."""

_Table = tuple[tuple[str, str, str], ...]
"""Rows of: Hugging Face name, GGUF name, shape in the symbols of `_slots`."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to be written."""

    name: str
    shape: tuple[int, ...]
    """Rows before columns, as in the checkpoint."""
    source: StoredTensor | Floats
    """Where its numbers are, or the numbers themselves."""

    @property
    def stays_f32(self) -> bool:
        """Vectors, norms and routers: small, and sensitive."""
        return (
            len(self.shape) == 1
            or self.name.endswith("_norm.weight")
            or "ffn_gate_inp" in self.name
            or not self.name.endswith(".weight")
        )


def plan_tensors(spec: Spec, checkpoint: Checkpoint) -> list[Tensor]:
    """The tensors of the GGUF file, in llama.cpp's order.

    Raises:
        LocalmtpError: a tensor is missing, has another shape or data type than the configuration
            asks for, or has no place in the architecture.
    """
    stored = {_plain_name(name): tensor for name, tensor in checkpoint.tensors.items()}
    if spec.tied or spec.backbone is not None:
        stored.pop("lm_head.weight", None)
    planned = [Tensor("rope_freqs.weight", (spec.global_head_dim // 2,), _rope_factors(spec))]
    for slot in _slots(spec):
        source = stored.pop(slot.hf_name, None)
        if source is None and slot.required:
            raise LocalmtpError(f"{checkpoint.directory} lacks the tensor {slot.hf_name}")
        if source is not None:
            _check(source, slot)
            planned.append(Tensor(slot.name, source.shape, source))
    for name, source in stored.items():
        if not _SKIPPED.search(name):
            raise LocalmtpError(
                f"{source.file} holds {source.name}, which a {spec.hf_class} does not have",
                hint="is it quantized, an adapter, or of another architecture?",
            )
    return sorted(planned, key=_llama_cpp_order)


def shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Hugging Face name and shape of every tensor that a checkpoint must hold."""
    return {slot.hf_name: slot.shape for slot in _slots(spec) if slot.required}


def source_kind(tensors: list[Tensor]) -> int:
    """The `ggml_type` that holds every matrix of the checkpoint without loss."""
    kinds = {
        KINDS[t.source.dtype]
        for t in tensors
        if isinstance(t.source, StoredTensor) and not t.stays_f32
    }
    return kinds.pop() if len(kinds) == 1 else F32


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place for a tensor in the architecture."""

    hf_name: str
    name: str
    shape: tuple[int, ...]
    required: bool


_SKIPPED = re.compile(
    r"vision_|audio_|embed_vision|embed_audio|rotary_emb\.inv_freq|^masked_embedding\."
)
"""Towers and projectors, buffers, and the drafter's centroid head, which llama.cpp has no use for
(it scores the whole vocabulary)."""

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


def _slots(spec: Spec) -> Iterator[_Slot]:
    """Every tensor that the architecture has, or may have."""
    sizes = {
        "1": 1,
        "V": spec.vocab,
        "n": spec.hidden,
        "p": spec.ple,
        "P": spec.ple * spec.layers,
        "E": spec.experts or 0,
        "e": spec.expert_ffn or 0,
        "2e": 2 * (spec.expert_ffn or 0),
        "b": spec.backbone or 0,
        "2b": 2 * (spec.backbone or 0),
    }
    tables: list[_Table] = [_GLOBAL]
    if spec.backbone is not None:
        tables.append(_DRAFTER)
    elif not spec.tied:
        tables.append(_UNTIED)
    if spec.ple:
        tables.append(_PLE)
    for table in tables:
        yield from _fill(table, sizes, "", "", required=True)
    for layer in range(spec.layers):
        head = spec.head_dim_at(layer)
        sizes |= {
            "d": head,
            "q": head * spec.heads,
            "k": head * spec.kv_heads_at(layer),
            "f": spec.ffn_at(layer),
        }
        prefixes = f"layers.{layer}.", f"blk.{layer}."
        yield from _fill(_LAYER, sizes, *prefixes, required=True)
        if spec.backbone is None:
            own = not spec.shares_kv(layer)
            values = own and (spec.sliding[layer] or not spec.keys_are_values)
            yield from _fill(_LAYER_KEYS, sizes, *prefixes, required=own)
            yield from _fill(_LAYER_VALUES, sizes, *prefixes, required=values)
        if spec.ple:
            yield from _fill(_LAYER_PLE, sizes, *prefixes, required=True)
        if spec.moe:
            yield from _fill(_LAYER_MOE, sizes, *prefixes, required=True)


def _fill(
    table: _Table,
    sizes: Mapping[str, int],
    hf_prefix: str,
    prefix: str,
    *,
    required: bool,
) -> Iterator[_Slot]:
    for hf_name, name, shape in table:
        dimensions = tuple(sizes[symbol] for symbol in shape.split())
        yield _Slot(hf_prefix + hf_name, prefix + name, dimensions, required)


def _plain_name(name: str) -> str:
    """`model.language_model.layers.0.x`, `language_model.model.layers.0.x` → `layers.0.x`."""
    return name.replace("language_model.", "").removeprefix("model.")


def _check(source: StoredTensor, slot: _Slot) -> None:
    if source.dtype not in KINDS:
        raise LocalmtpError(
            f"{source.file}: {source.name} is {source.dtype}",
            hint=f"data types that are converted: {', '.join(KINDS)}",
        )
    if source.shape != slot.shape:
        raise LocalmtpError(
            f"{source.file}: {source.name} has the shape {list(source.shape)}, "
            f"and config.json asks for {list(slot.shape)}"
        )


def _rope_factors(spec: Spec) -> Floats:
    """[global_head_dim / 2]: 1 where a full-attention head is rotated ("proportional" rope)."""
    rotated = int(spec.global_head_dim * spec.rotary_factor / 2)
    factors = np.full(spec.global_head_dim // 2, _UNROTATED, np.float32)
    factors[:rotated] = 1
    return factors


def _llama_cpp_order(tensor: Tensor) -> tuple[int, str]:
    """As llama.cpp's quantizer orders its files: by layer, then by name."""
    layer = re.match(r"blk\.(\d+)\.", tensor.name)
    return int(layer[1]) if layer else -1, tensor.name
