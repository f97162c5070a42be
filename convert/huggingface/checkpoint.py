"""Checkpoint directories in the Hugging Face layout: configuration files and tensors in shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localmtp.convert.huggingface.safetensors import StoredTensor, damaged, read_header
from localmtp.errors import LocalmtpError

Json = Mapping[str, Any]

_MAX_JSON_BYTES = 96 << 20
"""Largest JSON file that is read; Gemma 4's tokenizer.json has 32 MiB."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint directory whose headers have been read; no weights are in memory."""

    directory: Path
    config: Json
    """config.json."""
    generation_config: Json
    """generation_config.json; empty if there is none."""
    tensors: Mapping[str, StoredTensor]
    """Tensors by name, sorted."""


def open_checkpoint(directory: Path) -> Checkpoint:
    """Read a checkpoint's configuration and the headers of its shards.

    Raises:
        LocalmtpError: the directory is missing, incomplete or damaged, or its format is not
            supported.
    """
    if not directory.is_dir():
        problem = "is a file, not a directory" if directory.exists() else "does not exist"
        raise LocalmtpError(
            f"{directory} {problem}", hint="give a directory with config.json and *.safetensors"
        )
    if (directory / "adapter_config.json").exists() and not _shard_names(directory):
        raise LocalmtpError(
            f"{directory} is a LoRA adapter, not a complete model",
            hint="merge it into its base model first (peft: merge_and_unload, save_pretrained)",
        )
    config = read_json(directory / "config.json")
    generation = directory / "generation_config.json"
    return Checkpoint(
        directory,
        config,
        read_json(generation) if generation.exists() else {},
        _read_shards(directory),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        LocalmtpError: the file is missing, is not JSON, or contains something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_JSON_BYTES + 1)
        if len(text) > _MAX_JSON_BYTES:
            raise LocalmtpError(f"{path} is larger than {_MAX_JSON_BYTES >> 20} MiB")
        value = json.loads(text)
    except FileNotFoundError:
        raise LocalmtpError(
            f"{path.parent} has no {path.name}", hint="give a Hugging Face checkpoint directory"
        ) from None
    except (ValueError, RecursionError) as error:
        raise LocalmtpError(f"{path} is not valid JSON: {error}") from error
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(value, dict):
        raise LocalmtpError(f"{path} is not a JSON object")
    return value


def _shard_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("model*.safetensors"))


def _read_shards(directory: Path) -> dict[str, StoredTensor]:
    """Read the headers of all shards, and compare them with the index if there is one."""
    index = directory / "model.safetensors.index.json"
    listed = _weight_map(index) if index.exists() else None
    names = sorted(set(listed.values())) if listed is not None else _shard_names(directory)
    if not names:
        raise _no_weights(directory)
    tensors: dict[str, StoredTensor] = {}
    for name in names:
        if not (directory / name).is_file():
            raise LocalmtpError(
                f"{directory} has no {name}, which its index lists",
                hint="download the checkpoint again",
            )
        for tensor in read_header(directory / name):
            if tensor.name in tensors:
                raise damaged(tensor.file, f"{tensor.name} is also in {tensors[tensor.name].file}")
            tensors[tensor.name] = tensor
    for name, shard in (listed or {}).items():
        if name not in tensors or tensors[name].file.name != shard:
            raise LocalmtpError(f"{index} places {name} in {shard}, which does not contain it")
    return dict(sorted(tensors.items()))


def _weight_map(index: Path) -> dict[str, str]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise LocalmtpError(f"{index} has no weight_map")
    for shard in listed.values():
        # A shard is a file next to its index, never a path to another directory.
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise LocalmtpError(f"{index} lists a shard outside its directory: {shard!r}")
    return listed


def _no_weights(directory: Path) -> LocalmtpError:
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt")):
        return LocalmtpError(
            f"{directory} has pickled weights (.bin), which can run code when loaded",
            hint="load it with transformers and save_pretrained it: that writes safetensors",
        )
    if any(directory.glob("*.gguf")):
        return LocalmtpError(f"{directory} contains GGUF files; there is nothing to convert")
    return LocalmtpError(f"{directory} has no model*.safetensors")
