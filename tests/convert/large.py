"""A checkpoint of a published size, of random weights: to measure time and memory on.

    python -m tests.convert.large DIR [MODEL [LAYERS]]

writes MODEL (gemma4-e4b; 16 GB) into DIR, cut down to LAYERS layers where given.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from localmtp.convert.huggingface.architecture import read_spec
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.tensors import shapes
from tests.convert.checkpoints import CARD, write_json, write_tokenizer

_VOCAB = 262_144
_SHARD = 4 << 30
_SPREAD = 0.02


def write_large(directory: Path, model: str, layers: int | None = None) -> Path:
    """Write a checkpoint in BF16, as sharded as the published ones.

    Args:
        directory: is made.
        model: as in the registry, without quantization.
        layers: keep this many; None: all.
    """
    directory.mkdir(parents=True)
    config = _config(model, layers)
    write_json(directory / "config.json", config)
    sizes = shapes(read_spec(Checkpoint(directory, config, {}, {})))
    _write_shards(directory, {f"model.language_model.{name}": s for name, s in sizes.items()})
    write_tokenizer(directory, _VOCAB)
    (directory / "README.md").write_text(CARD)
    return directory


def _config(model: str, layers: int | None) -> dict[str, Any]:
    known = tomllib.loads((files("localmtp.bench.synthetic") / "sizes.toml").read_text("utf-8"))
    text = dict(known[model]["target"])
    architectures = text.pop("architectures")
    period, count = text.pop("period", 6), text["num_hidden_layers"]
    if layers is not None:
        # A full-attention layer must be the last that has keys and values of its own.
        text["num_kv_shared_layers"] = min(text.get("num_kv_shared_layers", 0), layers % period)
        text["num_hidden_layers"] = count = layers
    full = [(i + 1) % period == 0 or i + 1 == count for i in range(count)]
    text["layer_types"] = ["full_attention" if each else "sliding_attention" for each in full]
    defaults = {
        "model_type": "gemma4_text",
        "vocab_size": _VOCAB,
        "vocab_size_per_layer_input": _VOCAB,
        "head_dim": 256,
        "global_head_dim": 512,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_parameters": {
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 1e6,
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    }
    return {
        "architectures": architectures,
        "model_type": "gemma4",
        "text_config": defaults | text,
        "tie_word_embeddings": True,
    }


def _write_shards(directory: Path, sizes: Mapping[str, tuple[int, ...]]) -> None:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = _SHARD
    for name, shape in sizes.items():
        if (size := 2 * prod(shape)) > room and shards[-1]:
            shards.append({})
            room = _SHARD
        shards[-1][name] = shape
        room -= size
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        _write_shard(directory / file, shard)
        weight_map |= dict.fromkeys(shard, file)
    write_json(directory / "model.safetensors.index.json", {"weight_map": weight_map})


def _write_shard(path: Path, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Matrices are one random block over and over, vectors ones."""
    random = np.random.default_rng(0).normal(0, _SPREAD, 1 << 24).astype(np.float32)
    block = (random.view(np.uint32) >> 16).astype(np.uint16)
    header: dict[str, Any] = {}
    end = 0
    for name, shape in sizes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in sizes.values():
            if len(shape) == 1:
                file.write(np.full(shape, 0x3F80, np.uint16).data)
                continue
            left = prod(shape)
            while left:
                left -= file.write(block[:left].data) // 2


if __name__ == "__main__":
    directory, *rest = sys.argv[1:]
    name = rest[0] if rest else "gemma4-e4b"
    print(write_large(Path(directory), name, int(rest[1]) if len(rest) > 1 else None))
