"""config.json of Qwen 3.5 and 3.6, dense and mixture of experts.

Missing keys have the defaults of transformers' configuration classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localmtp.convert.architectures.tensor_plan import MAX_EXPERTS, MAX_LAYERS
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.config_section import ConfigSection
from localmtp.errors import LocalmtpError

DENSE = ("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM")
MOE = ("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM")

_MAX_HEAD_DIM = 1 << 16
"""Far beyond every model."""

_LAYER_TYPES = {"linear_attention": True, "full_attention": False}

_ROPE_SECTIONS = (11, 11, 10)
"""`mrope_section` where config.json has none."""

_MAX_SECTIONS = 4
"""Sections of GGUF's `rope.dimension_sections`: time, height, width, and an unused one."""

_YARN = {
    "extrapolation_factor": "yarn_ext_factor",
    "attention_factor": "yarn_attn_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}
"""Key of `rope_parameters` → suffix of `rope.scaling`."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Extension of the context by scaled positions."""

    kind: str
    """`linear` or `yarn`."""
    factor: float
    original_context: int | None
    """Context before the extension in tokens; for YaRN."""
    yarn: Mapping[str, float]
    """Suffix of `rope.scaling` → value."""


@dataclass(frozen=True, slots=True)
class Qwen35Config:
    """Sizes of a Qwen 3.5 or 3.6, which determine its tensors and metadata."""

    vocab: int
    """Number of tokens."""
    hidden: int
    """Width of the residual stream."""
    context: int
    """Trained context length in tokens."""
    linear: tuple[bool, ...]
    """Per layer: True for linear attention, False for full attention."""
    interval: int
    """Every `interval`-th layer has full attention, where `linear` is regular."""
    heads: int
    kv_heads: int
    head_dim: int
    conv_kernel: int
    """Width of the convolution in tokens."""
    key_heads: int
    value_heads: int
    """Heads of linear attention: a multiple of `key_heads`."""
    state: int
    """Size of a head of linear attention, of keys and of values."""
    ffn: int | None
    """Width of the MLP; None in a mixture of experts."""
    experts: int | None
    experts_used: int | None
    expert_ffn: int
    shared_ffn: int
    """Width of the shared expert."""
    epsilon: float
    rope_theta: float
    rope_sections: tuple[int, ...]
    rotary_factor: float
    """Fraction of a head that is rotated."""
    rope_scaling: RopeScaling | None
    tied: bool
    """Whether the output head is the embedding table."""
    heads_stated: int
    """MTP heads (layers) that the configuration states."""

    @property
    def layers(self) -> int:
        """Number of layers without the MTP head."""
        return len(self.linear)


def read_config(checkpoint: Checkpoint, hf_class: str) -> Qwen35Config:
    """Read the sizes from a checkpoint's configuration.

    Args:
        checkpoint: config.json is read.
        hf_class: one of DENSE and MOE.

    Raises:
        LocalmtpError: a value is invalid.
    """
    top = ConfigSection(checkpoint.directory / "config.json", checkpoint.config)
    text = top.section("text_config") if "text_config" in checkpoint.config else top
    moe = hf_class in MOE
    _refuse_unsupported(text)
    rope = _rope(text)
    stated = checkpoint.config.get("tie_word_embeddings", text.raw.get("tie_word_embeddings"))
    config = Qwen35Config(
        vocab=text.count("vocab_size", 248_320),
        hidden=text.count("hidden_size", 2048 if moe else 4096),
        context=text.count("max_position_embeddings", 32_768),
        linear=_layer_types(text, 40 if moe else 32),
        interval=text.count("full_attention_interval", 4),
        heads=text.count("num_attention_heads", 16),
        kv_heads=text.count("num_key_value_heads", 2 if moe else 4),
        head_dim=text.count("head_dim", 256),
        conv_kernel=text.count("linear_conv_kernel_dim", 4),
        key_heads=text.count("linear_num_key_heads", 16),
        value_heads=text.count("linear_num_value_heads", 32),
        state=text.count("linear_key_head_dim", 128),
        ffn=text.optional_count("intermediate_size") if moe else _dense_ffn(text),
        experts=text.count("num_experts", 256) if moe else None,
        experts_used=text.count("num_experts_per_tok", 8) if moe else None,
        expert_ffn=text.count("moe_intermediate_size", 512) if moe else 0,
        shared_ffn=text.count("shared_expert_intermediate_size", 512) if moe else 0,
        epsilon=text.number("rms_norm_eps", 1e-6),
        rope_theta=rope.number("rope_theta", text.number("rope_theta", 10_000.0)),
        rope_sections=_sections(rope),
        rotary_factor=rope.number(
            "partial_rotary_factor", text.number("partial_rotary_factor", 0.25)
        ),
        rope_scaling=_scaling(rope),
        tied=stated is True,
        heads_stated=text.count("mtp_num_hidden_layers", 0, at_least=0),
    )
    _refuse_inconsistent(text, config)
    return config


def _dense_ffn(text: ConfigSection) -> int:
    return text.count("intermediate_size", 12_288)


def _refuse_unsupported(text: ConfigSection) -> None:
    expected: dict[str, tuple[Any, ...]] = {
        "hidden_act": (None, "silu"),
        "attention_bias": (None, False),
        "attn_output_gate": (None, True),
        "mtp_use_dedicated_embeddings": (None, False),
    }
    for key, values in expected.items():
        if text.raw.get(key) not in values:
            raise text.invalid(key)


def _refuse_inconsistent(text: ConfigSection, config: Qwen35Config) -> None:
    """Refuse sizes that contradict each other, or that libllama cannot run."""
    if config.value_heads % config.key_heads:
        raise text.invalid("linear_num_value_heads")
    # libllama has one size for the heads of keys and of values.
    if text.count("linear_value_head_dim", 128) != config.state:
        raise text.invalid("linear_value_head_dim")
    if config.heads % config.kv_heads:
        raise text.invalid("num_key_value_heads")
    for key, size in (("head_dim", config.head_dim), ("linear_key_head_dim", config.state)):
        if size > _MAX_HEAD_DIM:
            raise text.invalid(key)
    if not 0 < config.rotary_factor <= 1:
        raise text.invalid("rope_parameters")
    experts, used = config.experts or 0, config.experts_used or 0
    if experts > MAX_EXPERTS:
        raise text.invalid("num_experts")
    if used > experts:
        raise text.invalid("num_experts_per_tok")


def _layer_types(text: ConfigSection, default: int) -> tuple[bool, ...]:
    """Layers with linear attention."""
    layers = text.count("num_hidden_layers", default)
    if layers >= MAX_LAYERS:
        raise text.invalid("num_hidden_layers")
    names = text.raw.get("layer_types")
    if names is None:
        interval = text.count("full_attention_interval", 4)
        return tuple(bool((i + 1) % interval) for i in range(layers))
    if (
        not isinstance(names, list)
        or len(names) != layers
        or any(not isinstance(name, str) or name not in _LAYER_TYPES for name in names)
    ):
        raise text.invalid("layer_types")
    return tuple(_LAYER_TYPES[name] for name in names)


def _rope(text: ConfigSection) -> ConfigSection:
    """Return the parameters of the rope, under the newer or the older name."""
    for key in ("rope_parameters", "rope_scaling"):
        if text.raw.get(key) is not None:
            return text.section(key)
    return text


def _sections(rope: ConfigSection) -> tuple[int, ...]:
    sections = rope.raw.get("mrope_section")
    if sections is None:
        sections = list(_ROPE_SECTIONS)
    if (
        not isinstance(sections, list)
        or not 0 < len(sections) <= _MAX_SECTIONS
        or any(type(size) is not int or not 0 <= size < _MAX_HEAD_DIM for size in sections)
    ):
        raise rope.invalid("mrope_section")
    return (*sections, *(0,) * (_MAX_SECTIONS - len(sections)))


def _scaling(rope: ConfigSection) -> RopeScaling | None:
    kind = rope.raw.get("rope_type", rope.raw.get("type", "default"))
    if kind in ("default", None):
        return None
    if kind not in ("linear", "yarn"):
        raise rope.invalid("rope_type")
    if "factor" not in rope.raw:
        return None
    factor = rope.number("factor", 1.0)
    if kind == "linear":
        return RopeScaling(kind, factor, None, {})
    original = rope.optional_count("original_max_position_embeddings")
    if original is None:
        raise rope.invalid("original_max_position_embeddings")
    yarn = {
        name: rope.number(key, 0.0) for key, name in _YARN.items() if rope.raw.get(key) is not None
    }
    return RopeScaling(kind, factor, original, yarn)


def require_one_head(checkpoint: Checkpoint, stated: int) -> None:
    """Refuse a checkpoint whose MTP head is missing, or that has several.

    Args:
        checkpoint: names of tensors are read.
        stated: number of heads according to config.json.

    Raises:
        LocalmtpError: libllama could not run it.
    """
    if stated > 1:
        raise LocalmtpError(
            f"{checkpoint.directory} has {stated} MTP heads, libllama runs one",
            hint="--no-mtp converts the model without them",
        )
    if not any(name.removeprefix("model.").startswith("mtp.") for name in checkpoint.tensors):
        raise LocalmtpError(
            f"{checkpoint.directory} has no MTP head (tensors `mtp.*`), though its config.json "
            "states one",
            hint="--no-mtp converts the model without it; fine-tunes saved by transformers lack it",
        )
