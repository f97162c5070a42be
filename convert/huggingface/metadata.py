"""The GGUF metadata of a Gemma 4 model: what libllama needs, and where the model comes from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from gguf import GGML_QUANT_VERSION, GGUFType, GGUFWriter, Metadata, size_label

from localmtp.convert.huggingface.architecture import Spec
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.errors import LocalmtpError

logging.getLogger("metadata").addHandler(logging.NullHandler())

_SAMPLING = {
    "top_k": "sampling_top_k",
    "top_p": "sampling_top_p",
    "min_p": "sampling_min_p",
    "temperature": "sampling_temp",
    "repetition_penalty": "sampling_penalty_repeat",
}
"""generation_config.json's names for what becomes `general.sampling.*`."""

_HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from and what it is called."""

    folder: str
    """The checkpoint's own name: of its directory or its repository."""
    name: str | None = None
    """What the user calls it; None: as its model card or folder says."""
    repo: str | None = None
    """`USER/REPO` on the hub, when it came from there."""
    quantized_by: str | None = None
    license: str | None = None
    """What the user says; None: as the model card says."""

    @property
    def file_name(self) -> str:
        """The model's name in those of its files."""
        return self.name or self.folder

    @property
    def url(self) -> str | None:
        """The model's page on the hub."""
        return f"{_HUB}/{self.repo}" if self.repo else None


def write_origin(
    writer: GGUFWriter,
    checkpoint: Checkpoint,
    origin: Origin,
    target: Origin | None,
    kind: str = GGUFType.MODEL,
) -> None:
    """Name, authorship, licence, base models, tags and sampling defaults (`general.*`).

    The writer must already have the tensors: the size in the name is counted from them.

    Args:
        writer: of the file.
        checkpoint: its model card, configuration and generation configuration are read.
        origin: of the model.
        target: of the model that this one drafts for, where known.
        kind: `general.type`.

    Raises:
        LocalmtpError: the model card's front matter or a sampling value is malformed.
    """
    total, shared, expert, experts = writer.get_total_parameter_count()
    card = _model_card(checkpoint.directory)
    try:
        metadata = Metadata.apply_metadata_heuristic(
            Metadata(), card, dict(checkpoint.config), Path(origin.folder), total
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise LocalmtpError(
            f"the front matter of {checkpoint.directory / 'README.md'} is malformed: {error}"
        ) from error
    for key, attribute in _SAMPLING.items():
        value = checkpoint.generation_config.get(key)
        if isinstance(value, int | float):
            setattr(metadata, attribute, value)
    metadata.name = origin.name or metadata.name or origin.folder
    metadata.size_label = metadata.size_label or size_label(total, shared, expert, experts)
    metadata.quantized_by = origin.quantized_by
    metadata.license = origin.license or metadata.license
    metadata.source_repo_url = origin.url or metadata.source_repo_url
    if _from_qat(origin, card) and "qat" not in (tags := metadata.tags or []):
        metadata.tags = [*tags, "qat"]
    writer.add_type(kind)
    metadata.set_gguf_meta_model(writer)
    if target is not None:
        writer.add_string("localmtp.target.name", target.name or target.folder)
        writer.add_string("localmtp.target.repo_url", target.url or "")


def write_architecture(writer: GGUFWriter, spec: Spec) -> None:
    """The sizes that libllama builds the model from."""
    writer.add_block_count(spec.layers)
    writer.add_context_length(spec.context)
    writer.add_embedding_length(spec.hidden)
    writer.add_feed_forward_length(
        [spec.ffn_at(i) for i in range(spec.layers)] if spec.double_wide else spec.ffn
    )
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(
        [spec.kv_heads_at(i) for i in range(spec.layers)]
        if spec.global_kv_heads is not None
        else spec.kv_heads
    )
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_rope_freq_base_swa(spec.rope_theta_sliding)
    writer.add_layer_norm_rms_eps(spec.epsilon)
    if spec.experts is not None:
        writer.add_expert_count(spec.experts)
    if spec.experts_used is not None:
        writer.add_expert_used_count(spec.experts_used)
    writer.add_key_length(spec.global_head_dim)
    writer.add_value_length(spec.global_head_dim)
    if spec.softcap is not None:
        writer.add_final_logit_softcapping(spec.softcap)
    writer.add_sliding_window(spec.window)
    writer.add_shared_kv_layers(spec.shared_kv)
    writer.add_embedding_length_per_layer_input(spec.ple)
    writer.add_sliding_window_pattern(list(spec.sliding))
    writer.add_key_length_swa(spec.head_dim)
    writer.add_value_length_swa(spec.head_dim)
    if spec.expert_ffn is not None:
        writer.add_expert_feed_forward_length(spec.expert_ffn)
    writer.add_rope_dimension_count(spec.global_head_dim)
    writer.add_rope_dimension_count_swa(spec.head_dim)
    if spec.backbone is not None:
        writer.add_embedding_length_out(spec.backbone)
        writer.add_nextn_predict_layers(spec.layers)


def write_quantization(writer: GGUFWriter, file_type: int) -> None:
    """Which mixture of types the file was written as (`llama_ftype`)."""
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)


def write_suppressed(writer: GGUFWriter, checkpoint: Checkpoint, spec: Spec) -> None:
    """Tokens that the model must never generate."""
    match checkpoint.generation_config.get("suppress_tokens"):
        case [*ids] if spec.backbone is None and all(type(i) is int and i >= 0 for i in ids):
            writer.add_array("tokenizer.ggml.suppress_tokens", ids)


def _model_card(directory: Path) -> dict[str, Any]:
    try:
        return Metadata.load_model_card(directory)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LocalmtpError(
            f"the front matter of {directory / 'README.md'} is not valid YAML",
            hint="correct it, or remove the file",
        ) from error


def _from_qat(origin: Origin, card: dict[str, Any]) -> bool:
    """Whether a name along the model's line says quantization-aware training."""
    names = (origin.folder, origin.repo or "", str(card.get("base_model", "")))
    return any("qat" in name.lower().replace("_", "-").split("-") for name in names)
