"""Write a checkpoint of a published size with random weights, to measure time and memory on.

    python -m localmtp.bench.lab.convert.large DIR [MODEL] [--layers N]

Writes MODEL (gemma4-e4b: 16 GB) into DIR, cut down to N layers where given.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from localmtp.bench.lab.convert.checkpoints import CARD, write_json, write_tokenizer
from localmtp.convert.architectures.detect import read_architecture
from localmtp.convert.architectures.gemma4.config import DEFAULT_ROPE
from localmtp.convert.architectures.tensor_plan import required_shapes
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.errors import LocalmtpError

_VOCAB = 262_144
_SHARD = 4 << 30
"""Bytes per file, as in the published checkpoints."""
_SPREAD = 0.02
"""Standard deviation of the weights."""


def write_large(directory: Path, model: str, layers: int | None = None) -> Path:
    """Write a checkpoint in BF16, sharded like the published ones.

    Args:
        directory: must not exist.
        model: name in the registry, without quantization.
        layers: number of layers to keep; None: all.

    Returns:
        The directory.

    Raises:
        LocalmtpError: the registry has no such model.
    """
    config = _config(model, layers)
    directory.mkdir(parents=True)
    write_json(directory / "config.json", config)
    sizes = required_shapes(read_architecture(Checkpoint(directory, config, {}, {})))
    _write_shards(directory, {f"model.language_model.{name}": s for name, s in sizes.items()})
    write_tokenizer(directory, _VOCAB)
    (directory / "README.md").write_text(CARD)
    return directory


def _config(model: str, layers: int | None) -> dict[str, Any]:
    known = tomllib.loads((files("localmtp.bench.synthetic") / "sizes.toml").read_text("utf-8"))
    if model not in known:
        raise LocalmtpError(f"unknown model {model}", hint=f"known models: {', '.join(known)}")
    text = dict(known[model]["target"])
    architectures = text.pop("architectures")
    period, count = text.pop("period", 6), text["num_hidden_layers"]
    if layers is not None:
        # The last layer with its own keys and values must be a full-attention layer.
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
        "rope_parameters": DEFAULT_ROPE,
    }
    return {
        "architectures": architectures,
        "model_type": "gemma4",
        "text_config": defaults | text,
        "tie_word_embeddings": True,
    }


def _write_shards(directory: Path, sizes: Mapping[str, tuple[int, ...]]) -> None:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    free = _SHARD
    for name, shape in sizes.items():
        if (size := 2 * prod(shape)) > free and shards[-1]:
            shards.append({})
            free = _SHARD
        shards[-1][name] = shape
        free -= size
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        _write_shard(directory / file, shard)
        weight_map |= dict.fromkeys(shard, file)
    write_json(directory / "model.safetensors.index.json", {"weight_map": weight_map})


def _write_shard(path: Path, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Write matrices as one random block repeated, vectors as ones."""
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


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description="Write a checkpoint of a published size.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("model", nargs="?", default="gemma4-e4b", help="[%(default)s]")
    parser.add_argument("--layers", type=int, help="number of layers to keep [all]")
    arguments = parser.parse_args()
    try:
        print(write_large(arguments.directory, arguments.model, arguments.layers))
    except (LocalmtpError, FileExistsError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
