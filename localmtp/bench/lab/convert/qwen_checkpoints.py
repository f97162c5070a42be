"""Tiny Qwen 3.5 checkpoints of every shape, written with numpy; identical on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localmtp.bench.lab.convert.checkpoints import (
    CARD,
    values,
    write_json,
    write_shards,
)

QWEN_VOCAB = 512
"""Rows of the embedding; some have no token."""

_HIDDEN, _LAYERS, _HEADS, _KV_HEADS, _HEAD = 256, 8, 4, 2, 64
_STATE, _KERNEL = 32, 4
_FFN, _EXPERTS, _EXPERTS_USED, _EXPERT_FFN, _SHARED_FFN = 512, 8, 2, 32, 64
_TOWER, _TOWER_FFN, _TOWER_LAYERS, _POSITIONS, _PATCH = 64, 96, 2, 2304, 16

_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
_ORDINARY = ("<tool_call>", "</tool_call>", "<think>", "</think>")
"""Added tokens that are not special."""

QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

QWEN_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "0.8B": (
        "Qwen3_5ForConditionalGeneration",
        {"linear_num_value_heads": 2, "tie_word_embeddings": True},
    ),
    "9B": ("Qwen3_5ForConditionalGeneration", {}),
    "27B-text": (
        "Qwen3_5ForCausalLM",
        {
            "linear_num_value_heads": 6,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e7,
                "factor": 4.0,
                "original_max_position_embeddings": 4096,
            },
        },
    ),
    "35B-A3B": ("Qwen3_5MoeForConditionalGeneration", {}),
}
"""Class and changes of the text configuration, by the published size with the same structure."""

VISION_SHAPES = ("9B", "35B-A3B")
"""Shapes with a vision encoder."""


def write_qwen(
    directory: Path,
    shape: str,
    *,
    dtype: str = "BF16",
    shards: int = 1,
    head: bool = True,
    apart: bool = False,
) -> Path:
    """Write a checkpoint as transformers and Qwen do.

    Args:
        directory: must not exist.
        shape: a key of QWEN_SHAPES.
        dtype: BF16, F16 or F32.
        shards: number of safetensors files.
        head: write the tensors of the MTP head; the configuration states one in any case.
        apart: write every expert as tensors of its own.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True)
    write_json(directory / "config.json", qwen_config(shape))
    tensors = qwen_tensors(shape)
    if not head:
        tensors = {name: array for name, array in tensors.items() if not name.startswith("mtp.")}
    if apart:
        tensors = _experts_apart(tensors)
    write_shards(directory, tensors, dtype, shards)
    write_qwen_tokenizer(directory)
    generation = {"temperature": 0.6, "top_k": 20, "top_p": 0.95}
    write_json(directory / "generation_config.json", generation)
    if shape in VISION_SHAPES:
        images = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16}
        write_json(directory / "preprocessor_config.json", images)
    (directory / "README.md").write_text(CARD.replace("google/gemma-4-tiny", "Qwen/Qwen3.5-Tiny"))
    return directory


def qwen_config(shape: str) -> dict[str, Any]:
    """Complete config.json of a shape."""
    hf_class, changes = QWEN_SHAPES[shape]
    moe, wrapped = "Moe" in hf_class, "Conditional" in hf_class
    name = "qwen3_5_moe" if moe else "qwen3_5"
    text = _text_config(moe) | {"model_type": f"{name}_text"} | changes
    if not wrapped:
        return text | {"architectures": [hf_class]}
    config = {
        "architectures": [hf_class],
        "model_type": name,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "text_config": text,
    }
    if shape in VISION_SHAPES:
        config["vision_config"] = _vision_config(name)
    return config


def _text_config(moe: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "vocab_size": QWEN_VOCAB,
        "hidden_size": _HIDDEN,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "attn_output_gate": True,
        "attention_bias": False,
        "linear_conv_kernel_dim": _KERNEL,
        "linear_key_head_dim": _STATE,
        "linear_value_head_dim": _STATE,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "layer_types": [
            "linear_attention" if (i + 1) % 4 else "full_attention" for i in range(_LAYERS)
        ],
        "full_attention_interval": 4,
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000_000.0,
            "partial_rotary_factor": 0.25,
            "mrope_interleaved": True,
            "mrope_section": [3, 3, 2],
        },
    }
    if not moe:
        return config | {"intermediate_size": _FFN}
    return config | {
        "num_experts": _EXPERTS,
        "num_experts_per_tok": _EXPERTS_USED,
        "moe_intermediate_size": _EXPERT_FFN,
        "shared_expert_intermediate_size": _SHARED_FFN,
    }


def _vision_config(name: str) -> dict[str, Any]:
    return {
        "model_type": f"{name}_vision",
        "depth": _TOWER_LAYERS,
        "hidden_size": _TOWER,
        "intermediate_size": _TOWER_FFN,
        "num_heads": 2,
        "patch_size": _PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": _POSITIONS,
        "in_channels": 3,
        "out_hidden_size": _HIDDEN,
        "deepstack_visual_indexes": [],
        "hidden_act": "gelu_pytorch_tanh",
    }


def qwen_tensors(shape: str) -> dict[str, NDArray[np.float32]]:
    """All tensors by their Hugging Face name."""
    hf_class, changes = QWEN_SHAPES[shape]
    text = _text_config("Moe" in hf_class) | changes
    wrapped = "Conditional" in hf_class
    prefix = "model.language_model." if wrapped else "model."
    n = _HIDDEN
    sizes = {f"{prefix}embed_tokens.weight": (QWEN_VOCAB, n), f"{prefix}norm.weight": (n,)}
    if not text["tie_word_embeddings"]:
        sizes["lm_head.weight"] = (QWEN_VOCAB, n)
    for i, kind in enumerate(text["layer_types"]):
        layer = _linear_shapes(text) if kind == "linear_attention" else _full_shapes()
        sizes |= {f"{prefix}layers.{i}.{k}": size for k, size in (layer | _ffn(text)).items()}
    head = _full_shapes() | _ffn(text)
    sizes |= {f"mtp.layers.0.{name}": size for name, size in head.items()}
    norms = ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")
    sizes |= {"mtp.fc.weight": (n, 2 * n)} | {f"mtp.{name}.weight": (n,) for name in norms}
    if shape in VISION_SHAPES:
        sizes |= {f"model.visual.{name}": size for name, size in _tower_shapes().items()}
    return {name: _stored_values(name, *size) for name, size in sizes.items()}


def _stored_values(name: str, *shape: int) -> NDArray[np.float32]:
    """Values of a tensor; most norms are stored minus one."""
    found = values(name, *shape)
    whole = "linear_attn.norm" in name or "visual" in name
    return found - np.float32(1) if len(shape) == 1 and "norm" in name and not whole else found


def _full_shapes() -> dict[str, tuple[int, ...]]:
    n, queries, keys = _HIDDEN, _HEADS * _HEAD, _KV_HEADS * _HEAD
    return {
        "input_layernorm.weight": (n,),
        "post_attention_layernorm.weight": (n,),
        "self_attn.q_proj.weight": (2 * queries, n),
        "self_attn.k_proj.weight": (keys, n),
        "self_attn.v_proj.weight": (keys, n),
        "self_attn.o_proj.weight": (n, queries),
        "self_attn.q_norm.weight": (_HEAD,),
        "self_attn.k_norm.weight": (_HEAD,),
    }


def _linear_shapes(text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    n, heads = _HIDDEN, text["linear_num_value_heads"]
    keys, out = text["linear_num_key_heads"] * _STATE, heads * _STATE
    return {
        "input_layernorm.weight": (n,),
        "post_attention_layernorm.weight": (n,),
        "linear_attn.in_proj_qkv.weight": (2 * keys + out, n),
        "linear_attn.in_proj_z.weight": (out, n),
        "linear_attn.in_proj_a.weight": (heads, n),
        "linear_attn.in_proj_b.weight": (heads, n),
        "linear_attn.conv1d.weight": (2 * keys + out, 1, _KERNEL),
        "linear_attn.A_log": (heads,),
        "linear_attn.dt_bias": (heads,),
        "linear_attn.norm.weight": (_STATE,),
        "linear_attn.out_proj.weight": (n, out),
    }


def _ffn(text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    n = _HIDDEN
    if "num_experts" not in text:
        return {
            "mlp.gate_proj.weight": (_FFN, n),
            "mlp.up_proj.weight": (_FFN, n),
            "mlp.down_proj.weight": (n, _FFN),
        }
    return {
        "mlp.gate.weight": (_EXPERTS, n),
        "mlp.experts.gate_up_proj": (_EXPERTS, 2 * _EXPERT_FFN, n),
        "mlp.experts.down_proj": (_EXPERTS, n, _EXPERT_FFN),
        "mlp.shared_expert.gate_proj.weight": (_SHARED_FFN, n),
        "mlp.shared_expert.up_proj.weight": (_SHARED_FFN, n),
        "mlp.shared_expert.down_proj.weight": (n, _SHARED_FFN),
        "mlp.shared_expert_gate.weight": (1, n),
    }


def _tower_shapes() -> dict[str, tuple[int, ...]]:
    w, merged = _TOWER, 4 * _TOWER
    weights: dict[str, tuple[int, ...]] = {
        "patch_embed.proj": (w, 3, 2, _PATCH, _PATCH),
        "merger.linear_fc1": (merged, merged),
        "merger.linear_fc2": (_HIDDEN, merged),
        "merger.norm": (w,),
    }
    for i in range(_TOWER_LAYERS):
        weights |= {
            f"blocks.{i}.norm1": (w,),
            f"blocks.{i}.norm2": (w,),
            f"blocks.{i}.attn.qkv": (3 * w, w),
            f"blocks.{i}.attn.proj": (w, w),
            f"blocks.{i}.mlp.linear_fc1": (_TOWER_FFN, w),
            f"blocks.{i}.mlp.linear_fc2": (w, _TOWER_FFN),
        }
    biases = {f"{name}.bias": size[:1] for name, size in weights.items()}
    shapes = {f"{name}.weight": size for name, size in weights.items()}
    return {"pos_embed.weight": (_POSITIONS, w), **shapes, **biases}


def _experts_apart(tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Replace fused experts by one tensor for each expert and matrix."""
    apart: dict[str, NDArray[np.float32]] = {}
    for name, array in tensors.items():
        where, _, kind = name.rpartition(".")
        if not where.endswith("mlp.experts"):
            apart[name] = array
            continue
        for i, expert in enumerate(array):
            if kind == "down_proj":
                apart[f"{where}.{i}.down_proj.weight"] = expert
            else:
                gate, up = np.split(expert, 2)
                apart |= {f"{where}.{i}.gate_proj.weight": gate, f"{where}.{i}.up_proj.weight": up}
    return apart


def write_qwen_tokenizer(directory: Path, size: int = QWEN_VOCAB) -> None:
    """Write a byte-level BPE tokenizer like Qwen's, with fewer tokens than rows."""
    letters = sorted(_byte_letters())
    merges = [("t", "h"), ("i", "n"), ("th", "e"), ("Ġ", "a"), ("Ġ", "the")]
    vocab = {token: i for i, token in enumerate([*letters, *map("".join, merges)])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": len(vocab) + i, "content": token, "special": token in _SPECIAL, **flags}
        for i, token in enumerate([*_SPECIAL, *_ORDINARY])
    ]
    assert len(vocab) + len(added) < size
    split = {
        "type": "Split",
        "pattern": {"Regex": _REGEX},
        "behavior": "Isolated",
        "invert": False,
    }
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, bytes_ | {"use_regex": False}],
        },
        "post_processor": bytes_ | {"use_regex": False},
        "decoder": bytes_ | {"use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(pair) for pair in merges],
        },
    }
    write_json(directory / "tokenizer.json", tokenizer)
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "additional_special_tokens": list(_SPECIAL[1:]),
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "chat_template.jinja").write_text(QWEN_TEMPLATE)


def _byte_letters() -> list[str]:
    """The 256 letters by which byte-level BPE writes bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = len([byte for byte in range(256) if byte not in printable])
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(others)]
