"""GGUF metadata of every model: its provenance and its quantization.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_VERSION, GGUFType, GGUFWriter, Metadata, size_label

from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.model_card import read_model_card
from localmtp.errors import LocalmtpError

logging.getLogger("metadata").addHandler(logging.NullHandler())

_SAMPLING = {
    "top_k": "sampling_top_k",
    "top_p": "sampling_top_p",
    "min_p": "sampling_min_p",
    "temperature": "sampling_temp",
    "repetition_penalty": "sampling_penalty_repeat",
}
"""Key of generation_config.json → attribute of gguf's Metadata (`general.sampling.*`)."""

_MAX_SAMPLING_VALUE = 1e6
"""Far beyond every useful temperature, probability or penalty."""

_HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Name and origin of a model."""

    folder: str
    """Name of the checkpoint's directory or repository."""
    name: str | None = None
    """Name given by the user; None: from the model card, else `folder`."""
    repo: str | None = None
    """`USER/REPO` if it came from the hub."""
    quantized_by: str | None = None
    license: str | None = None
    """Licence given by the user; None: from the model card."""

    @property
    def file_name(self) -> str:
        """Name of the model in its files' names."""
        return self.name or self.folder

    @property
    def url(self) -> str | None:
        """Page on the hub; None for a local checkpoint."""
        return f"{_HUB}/{self.repo}" if self.repo else None


def write_provenance(
    writer: GGUFWriter,
    checkpoint: Checkpoint,
    provenance: Provenance,
    target: Provenance | None,
    kind: str = GGUFType.MODEL,
) -> None:
    """Write name, authorship, licence, base models, tags and sampling defaults (`general.*`).

    The tensors must have been added before: the size label is computed from them.

    Args:
        writer: receives the keys.
        checkpoint: model card, configuration and generation configuration are read from it.
        provenance: name and origin of the model.
        target: name and origin of a drafter's target, if known.
        kind: value of `general.type`.

    Raises:
        LocalmtpError: the model card's front matter or a sampling value is malformed.
    """
    total, shared, expert, experts = writer.get_total_parameter_count()
    card = read_model_card(checkpoint.directory)
    path = checkpoint.config.get("_name_or_path")
    names = {"_name_or_path": path} if isinstance(path, str) else {}
    try:
        metadata = Metadata.apply_metadata_heuristic(
            Metadata(), card, names, Path(provenance.folder), total
        )
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise LocalmtpError(
            f"cannot derive the model's name from {checkpoint.directory}: {error}",
            hint="fix README.md and config.json, or remove README.md",
        ) from error
    for key, attribute in _SAMPLING.items():
        setattr(metadata, attribute, _sampling_value(checkpoint, key))
    metadata.name = provenance.name or metadata.name or provenance.folder
    metadata.size_label = metadata.size_label or size_label(total, shared, expert, experts)
    metadata.quantized_by = provenance.quantized_by
    metadata.license = provenance.license or metadata.license
    metadata.source_repo_url = provenance.url or metadata.source_repo_url
    if _from_qat(provenance, card) and "qat" not in (tags := metadata.tags or []):
        metadata.tags = [*tags, "qat"]
    writer.add_type(kind)
    metadata.set_gguf_meta_model(writer)
    if target is not None:
        writer.add_string("localmtp.target.name", target.name or target.folder)
        writer.add_string("localmtp.target.repo_url", target.url or "")


def write_quantization(writer: GGUFWriter, file_type: int) -> None:
    """Write the quantization (`llama_ftype`) and the version of its format."""
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _sampling_value(checkpoint: Checkpoint, key: str) -> float | None:
    """Return a sampling default; None if there is none, or of a type that transformers ignores."""
    value = checkpoint.generation_config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if key == "top_k":
        valid = isinstance(value, int) and 0 <= value < 1 << 31
    else:
        valid = 0 <= value <= _MAX_SAMPLING_VALUE
    if not valid:
        path = checkpoint.directory / "generation_config.json"
        raise LocalmtpError(
            f"{path}: invalid {key}: {str(value)[:60]}", hint="fix it, or remove the key"
        )
    return value


def _from_qat(provenance: Provenance, card: dict[str, Any]) -> bool:
    """Whether one of the model's names indicates quantization-aware training."""
    names = (provenance.folder, provenance.repo or "", str(card.get("base_model", "")))
    return any("qat" in name.lower().replace("_", "-").split("-") for name in names)
