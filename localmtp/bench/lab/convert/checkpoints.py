"""Tiny Gemma 4 checkpoints of every shape, written with numpy; identical on every machine.

The layout is that of transformers' save_pretrained: config.json, safetensors files, tokenizer,
generation configuration, chat template and model card.
"""

from __future__ import annotations

import json
from itertools import islice, product
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from localmtp.convert.architectures.gemma4.config import DEFAULT_ROPE

VOCAB = 384
"""Number of tokens."""
HEAD, GLOBAL_HEAD, HEADS = 32, 64, 4
"""Head size of sliding-window layers and of full-attention layers, and number of heads."""

_SPECIAL = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
    *("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think>", '<|"|>'),
    *("<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|image|>"),
)
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}{% endfor %}"

CARD = """---
license: apache-2.0
base_model: google/gemma-4-tiny
language: [en]
tags: [tiny]
pipeline_tag: text-generation
---
# A tiny model
"""

_COMMON: dict[str, Any] = {
    "model_type": "gemma4_text",
    "vocab_size": VOCAB,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "num_attention_heads": HEADS,
    "head_dim": HEAD,
    "num_kv_shared_layers": 0,
    "sliding_window": 16,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_parameters": DEFAULT_ROPE,
    "final_logit_softcapping": 30.0,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": VOCAB,
    "enable_moe_block": False,
    "num_experts": None,
    "top_k_experts": None,
    "moe_intermediate_size": None,
    "use_double_wide_mlp": False,
}
_GLOBAL = {"num_key_value_heads": 2, "num_global_key_value_heads": 1, "attention_k_eq_v": True}
_PLE = {"num_kv_shared_layers": 3, "hidden_size_per_layer_input": 32, "attention_k_eq_v": False}
_DRAFTER: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    "num_kv_shared_layers": 4,
    "final_logit_softcapping": None,
    "vocab_size_per_layer_input": 0,
}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "E2B": (
        "Gemma4ForConditionalGeneration",
        {**_PLE, "num_key_value_heads": 1, "use_double_wide_mlp": True},
    ),
    "E4B": ("Gemma4ForConditionalGeneration", {**_PLE, "num_key_value_heads": 2}),
    "12B": ("Gemma4UnifiedForConditionalGeneration", _GLOBAL),
    "26B-A4B": (
        "Gemma4ForConditionalGeneration",
        {
            **_GLOBAL,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 64,
        },
    ),
    "31B": ("Gemma4ForCausalLM", _GLOBAL),
    "E2B-assistant": (
        "Gemma4AssistantForCausalLM",
        {**_DRAFTER, "num_key_value_heads": 1, "attention_k_eq_v": False},
    ),
    "12B-assistant": ("Gemma4UnifiedAssistantForCausalLM", {**_DRAFTER, **_GLOBAL}),
}
"""Class and text configuration, by the published size that has the same structure."""

_TOP_TYPES = {
    "Gemma4ForConditionalGeneration": "gemma4",
    "Gemma4UnifiedForConditionalGeneration": "gemma4_unified",
    "Gemma4AssistantForCausalLM": "gemma4_assistant",
    "Gemma4UnifiedAssistantForCausalLM": "gemma4_unified_assistant",
}


def write_checkpoint(
    directory: Path,
    shape: str,
    *,
    dtype: str = "BF16",
    new_config: bool = False,
    shards: int = 1,
    extra: dict[str, NDArray[np.float32]] | None = None,
) -> Path:
    """Write a checkpoint.

    Args:
        directory: must not exist.
        shape: a key of SHAPES.
        dtype: BF16, F16 or F32.
        new_config: write `per_layer_config` instead of `global_head_dim`, and omit the keys that
            newer versions of transformers omit.
        shards: number of safetensors files.
        extra: additional tensors.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True)
    text = text_config(shape)
    config = full_config(shape, text)
    if new_config:
        _modernize(text)
    write_json(directory / "config.json", config)
    tensors = model_tensors(shape) | (extra or {})
    write_shards(directory, tensors, dtype, shards)
    write_tokenizer(directory)
    generation: dict[str, Any] = {"temperature": 1.0, "top_k": 64, "top_p": 0.95}
    if shape == "12B":
        generation["suppress_tokens"] = [5, 6]
    write_json(directory / "generation_config.json", generation)
    (directory / "README.md").write_text(CARD)
    return directory


def text_config(shape: str) -> dict[str, Any]:
    """Configuration of the language model."""
    text = _COMMON | {"global_head_dim": GLOBAL_HEAD} | SHAPES[shape][1]
    if "Unified" in SHAPES[shape][0]:
        text["model_type"] = "gemma4_unified_text"
    return text


def full_config(shape: str, text: dict[str, Any]) -> dict[str, Any]:
    """Complete config.json, which contains the text configuration or is extended from it."""
    hf_class = SHAPES[shape][0]
    if hf_class not in _TOP_TYPES:
        text["architectures"] = [hf_class]
        return text
    config = {
        "architectures": [hf_class],
        "model_type": _TOP_TYPES[hf_class],
        "text_config": text,
        "tie_word_embeddings": True,
    }
    if "Assistant" in hf_class:
        config |= {
            "backbone_hidden_size": _COMMON["hidden_size"],
            "use_ordered_embeddings": shape.startswith("E"),
            "num_centroids": 32,
            "centroid_intermediate_top_k": 4,
        }
    return config


def _modernize(text: dict[str, Any]) -> None:
    override = {"head_dim": text.pop("global_head_dim")}
    heads = text.pop("num_global_key_value_heads", None)
    if text["attention_k_eq_v"]:
        override["num_key_value_heads"] = heads
    text["per_layer_config"] = {
        f"{i:02}": override for i, t in enumerate(text["layer_types"]) if t == "full_attention"
    }
    if text["model_type"] == "gemma4_unified_text":
        for key in ("hidden_size_per_layer_input", "enable_moe_block", "moe_intermediate_size"):
            del text[key]


def model_tensors(shape: str) -> dict[str, NDArray[np.float32]]:
    """All tensors by their Hugging Face name."""
    hf_class = SHAPES[shape][0]
    prefix = "model.language_model." if "Conditional" in hf_class else "model."
    shapes = _tensor_shapes(shape, text_config(shape))
    tensors = {prefix + name: values(name, *size) for name, size in shapes.items()}
    if "Assistant" in hf_class:
        hidden, backbone = _DRAFTER["hidden_size"], _COMMON["hidden_size"]
        tensors["pre_projection.weight"] = values("pre_projection", hidden, 2 * backbone)
        tensors["post_projection.weight"] = values("post_projection", backbone, hidden)
        if shape.startswith("E"):
            tensors["masked_embedding.centroids.weight"] = values("centroids", 32, hidden)
    if "Conditional" in hf_class:
        tensors["model.embed_vision.embedding_projection.weight"] = values("vision", 256, 32)
    return tensors


def _tensor_shapes(shape: str, text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    n, ple, layers = (
        text["hidden_size"],
        text["hidden_size_per_layer_input"],
        text["num_hidden_layers"],
    )
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (VOCAB, n), "norm.weight": (n,)}
    if ple:
        shapes |= {
            "embed_tokens_per_layer.weight": (VOCAB, layers * ple),
            "per_layer_model_projection.weight": (layers * ple, n),
            "per_layer_projection_norm.weight": (ple,),
        }
    for i, kind in enumerate(text["layer_types"]):
        layer = _layer_shapes(text, n, i, kind == "full_attention", "assistant" in shape)
        shapes |= {f"layers.{i}.{name}": size for name, size in layer.items()}
    return shapes


def _layer_shapes(
    text: dict[str, Any], n: int, i: int, full: bool, drafter: bool
) -> dict[str, tuple[int, ...]]:
    head = GLOBAL_HEAD if full else HEAD
    heads = text["num_key_value_heads"]
    if full and text["attention_k_eq_v"]:
        heads = text["num_global_key_value_heads"]
    shared = i >= text["num_hidden_layers"] - text["num_kv_shared_layers"]
    ffn = text["intermediate_size"] * (2 if shared and text["use_double_wide_mlp"] else 1)
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (HEADS * head, n),
        "self_attn.q_norm.weight": (head,),
        "self_attn.o_proj.weight": (n, HEADS * head),
        "mlp.gate_proj.weight": (ffn, n),
        "mlp.up_proj.weight": (ffn, n),
        "mlp.down_proj.weight": (n, ffn),
        "layer_scalar": (1,),
    }
    norms = ["input", "post_attention", "pre_feedforward", "post_feedforward"]
    shapes |= {f"{norm}_layernorm.weight": (n,) for norm in norms}
    if not shared and not drafter:
        shapes["self_attn.k_proj.weight"] = (heads * head, n)
        shapes["self_attn.k_norm.weight"] = (head,)
        if not (full and text["attention_k_eq_v"]):
            shapes["self_attn.v_proj.weight"] = (heads * head, n)
    if ple := text["hidden_size_per_layer_input"]:
        shapes["per_layer_input_gate.weight"] = (ple, n)
        shapes["per_layer_projection.weight"] = (n, ple)
        shapes["post_per_layer_input_norm.weight"] = (n,)
    if text["enable_moe_block"]:
        experts, width = text["num_experts"], text["moe_intermediate_size"]
        shapes |= {
            "router.proj.weight": (experts, n),
            "router.scale": (n,),
            "router.per_expert_scale": (experts,),
            "experts.gate_up_proj": (experts, 2 * width, n),
            "experts.down_proj": (experts, n, width),
            "post_feedforward_layernorm_1.weight": (n,),
            "post_feedforward_layernorm_2.weight": (n,),
            "pre_feedforward_layernorm_2.weight": (n,),
        }
    return shapes


def values(name: str, *shape: int) -> NDArray[np.float32]:
    """Values that depend on the name only: products of small integers, exact on every machine."""
    random = np.random.default_rng(crc32(name.encode()))
    factors = random.integers(-96, 97, (2, *shape)).astype(np.float32)
    product: NDArray[np.float32] = factors[0] * factors[1] / np.float32(65536)
    # Vectors are norms and scales, whose values are near one.
    return product + np.float32(1) if len(shape) == 1 else product


def stored(array: NDArray[Any], dtype: str) -> bytes:
    """Bytes of an array in a safetensors data type; BF16 by truncation."""
    if dtype == "BF16":
        return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return array.astype({"F16": np.float16, "F32": np.float32}[dtype]).tobytes()


def write_shards(
    directory: Path, tensors: dict[str, NDArray[np.float32]], dtype: str, shards: int = 1
) -> None:
    """Write tensors into one file, or into several with an index."""
    names = list(tensors)
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors, dtype)
        return
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        write_safetensors(directory / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    write_json(directory / "model.safetensors.index.json", {"weight_map": weight_map})


def write_safetensors(path: Path, tensors: dict[str, NDArray[np.float32]], dtype: str) -> None:
    """Write one safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, array in tensors.items():
        encoded = stored(array, dtype)
        offsets = [len(data), len(data) + len(encoded)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += encoded
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_tokenizer(directory: Path, size: int = VOCAB) -> None:
    """Write a byte-fallback BPE tokenizer of `size` tokens like Gemma's, and its configuration."""
    letters = ["▁", "\n", *map(chr, range(ord("a"), ord("z") + 1))]
    tokens = [*_SPECIAL, *(f"<0x{i:02X}>" for i in range(256)), *letters]
    words = (word for n in (2, 3, 4) for word in product(letters[2:], repeat=n))
    pairs = [("".join(head), last) for *head, last in islice(words, size - len(tokens))]
    vocab = {token: i for i, token in enumerate([*tokens, *map("".join, pairs)])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    fallback = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, "special": True, **flags}
            for i, token in enumerate(_SPECIAL)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": fallback},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(pair) for pair in pairs],
        },
    }
    write_json(directory / "tokenizer.json", tokenizer)
    named = {f"{t[1:-1]}_token": t for t in _SPECIAL[:5]}
    config = {
        "tokenizer_class": "GemmaTokenizer",
        **named,
        "sot_token": "<|turn>",
        "extra_special_tokens": list(_SPECIAL[6:]),
    }
    write_json(directory / "tokenizer_config.json", config)
    (directory / "chat_template.jinja").write_text(TEMPLATE)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON."""
    path.write_text(json.dumps(value), encoding="utf-8")
