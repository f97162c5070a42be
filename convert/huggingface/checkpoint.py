"""Hugging Face checkpoints on disk: configuration, and where each tensor's bytes are.

The safetensors format: eight bytes (little-endian length), a JSON header of that length, then the
data that the header's offsets point into (https://huggingface.co/docs/safetensors). Nothing here
reads a weight; headers are checked so that reading one later cannot go astray.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from localmtp.engine.llama.ggml import BF16, F16, F32, Bytes
from localmtp.errors import LocalmtpError

_HEADER_LIMIT = 100 << 20
"""Longest header that the safetensors library itself accepts, in bytes."""

_ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
KINDS = {"F32": F32, "F16": F16, "BF16": BF16}
"""Data types that can be converted, as `ggml_type`."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    """Bytes from the start of the file."""

    @property
    def size(self) -> int:
        """Length of the data in bytes."""
        return prod(self.shape) * _ITEM_SIZES[self.dtype]

    def read(self, start: int, size: int) -> Bytes:
        """`size` bytes from byte `start` of the data on.

        Raises:
            LocalmtpError: the file cannot be read, or has become shorter since its header was.
        """
        raw = np.empty(size, np.uint8)
        got = 0
        try:
            with self.file.open("rb", buffering=0) as file:
                file.seek(self.offset + start)
                while got < size and (n := file.readinto(raw.data[got:])):
                    got += n
        except OSError as error:
            raise LocalmtpError(f"cannot read {self.file}: {error.strerror}") from error
        if got < size:
            raise _damaged(self.file, f"it ends inside {self.name}")
        return raw


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory in Hugging Face's layout."""

    directory: Path
    config: Json
    generation_config: Json
    tensors: Mapping[str, StoredTensor]
    """By name, in the order of their names."""


def open_checkpoint(directory: Path) -> Checkpoint:
    """Read a checkpoint's configuration and the headers of its shards.

    Raises:
        LocalmtpError: it is not there, not whole, damaged, or in a form that is not converted.
    """
    if not directory.is_dir():
        what = "is a file, not a directory" if directory.exists() else "does not exist"
        raise LocalmtpError(
            f"{directory} {what}", hint="give a directory with config.json and *.safetensors"
        )
    if (directory / "adapter_config.json").exists() and not _shard_names(directory):
        raise LocalmtpError(
            f"{directory} holds a LoRA adapter, not a whole model",
            hint="merge it into its base model first (peft: merge_and_unload, save_pretrained)",
        )
    config = read_json(directory / "config.json")
    generation = directory / "generation_config.json"
    return Checkpoint(
        directory,
        config,
        read_json(generation) if generation.exists() else {},
        _index(directory),
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        LocalmtpError: it is missing, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_bytes())
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


def _index(directory: Path) -> dict[str, StoredTensor]:
    """All tensors of all shards, checked against the index where there is one."""
    index = directory / "model.safetensors.index.json"
    listed = _weight_map(index) if index.exists() else None
    names = sorted(set(listed.values())) if listed is not None else _shard_names(directory)
    if not names:
        raise _no_weights(directory)
    tensors: dict[str, StoredTensor] = {}
    for name in names:
        if not (directory / name).is_file():
            raise LocalmtpError(
                f"{directory} lacks the shard {name}", hint="download the checkpoint again"
            )
        for tensor in _read_header(directory / name):
            if tensor.name in tensors:
                raise _damaged(tensor.file, f"{tensor.name} is also in {tensors[tensor.name].file}")
            tensors[tensor.name] = tensor
    for name, shard in (listed or {}).items():
        if name not in tensors or tensors[name].file.name != shard:
            raise LocalmtpError(f"{index} puts {name} into {shard}, which does not hold it")
    return dict(sorted(tensors.items()))


def _weight_map(index: Path) -> dict[str, str]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise LocalmtpError(f"{index} has no weight_map")
    for shard in listed.values():
        # A shard is a file beside its index, never a path to somewhere else.
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise LocalmtpError(f"{index} names a shard outside its directory: {shard!r}")
    return listed


def _no_weights(directory: Path) -> LocalmtpError:
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt")):
        return LocalmtpError(
            f"{directory} holds pickled weights (.bin), which can run code when they are read",
            hint="load it with transformers and save_pretrained it anew: that writes safetensors",
        )
    if any(directory.glob("*.gguf")):
        return LocalmtpError(f"{directory} already holds GGUF files; there is nothing to convert")
    return LocalmtpError(f"{directory} has no model*.safetensors")


def _read_header(path: Path) -> Iterator[StoredTensor]:
    """The tensors of one file, every offset checked against the file's length."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                raise _damaged(path, f"it is {size} bytes long and its header says {length}")
            text = file.read(length)
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not valid: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not an object")
    header.pop("__metadata__", None)
    tensors = [_stored(path, name, entry, 8 + length) for name, entry in header.items()]
    end = 8 + length
    for tensor in sorted(tensors, key=lambda t: (t.offset, t.size)):
        if tensor.offset < end and tensor.size:
            raise _damaged(path, f"{tensor.name} overlaps the tensor before it")
        end = max(end, tensor.offset + tensor.size)
    if end > size:
        raise _damaged(path, f"it is {size} bytes long and its tensors need {end}")
    yield from tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a name occurs twice")
    return keys


def _stored(path: Path, name: str, entry: object, base: int) -> StoredTensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            raise _damaged(path, f"the entry of {name} is not one")
    if dtype not in _ITEM_SIZES:
        raise LocalmtpError(
            f"{path}: {name} has the unknown data type {dtype}",
            hint=f"data types that are converted: {', '.join(KINDS)}",
        )
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in shape) or len(shape) > 8:
        raise _damaged(path, f"{name} has the shape {shape}")
    tensor = StoredTensor(name, dtype, tuple(shape), path, base + start)
    if start < 0 or end - start != tensor.size:
        raise _damaged(path, f"{name} has offsets that do not fit its shape")
    return tensor


def _damaged(path: Path, why: str) -> LocalmtpError:
    return LocalmtpError(f"{path} is damaged: {why}", hint="download it again")
