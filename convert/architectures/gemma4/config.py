"""config.json of Gemma 4 targets and drafters, in both generations of its keys.

Older files have `global_head_dim` and `num_global_key_value_heads`; newer ones have a
`per_layer_config` for the layers that differ. Missing keys have the defaults of transformers'
configuration classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.convert.architectures.tensor_plan import MAX_EXPERTS, MAX_LAYERS
from localmtp.convert.huggingface.checkpoint import Checkpoint
from localmtp.convert.huggingface.config_section import ConfigSection

TARGETS = (
    "Gemma4ForCausalLM",
    "Gemma4ForConditionalGeneration",
    "Gemma4UnifiedForCausalLM",
    "Gemma4UnifiedForConditionalGeneration",
)
DRAFTERS = ("Gemma4AssistantForCausalLM", "Gemma4UnifiedAssistantForCausalLM")

_MAX_DIGITS = 9
"""Longest layer number in `per_layer_config`."""

_MAX_HEAD_DIM = 1 << 16
"""Far beyond every model; limits the memory for rope frequency factors."""

_LAYER_TYPES = {"sliding_attention": True, "full_attention": False}
DEFAULT_ROPE = {
    "full_attention": {
        "rope_type": "proportional",
        "partial_rotary_factor": 0.25,
        "rope_theta": 1e6,
    },
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
"""`rope_parameters` where config.json has none."""


@dataclass(frozen=True, slots=True)
class Gemma4Config:
    """Sizes of a Gemma 4 target or drafter, which determine its tensors and metadata."""

    hf_class: str
    """Class in transformers, from `architectures`."""
    vocab: int
    """Number of tokens."""
    hidden: int
    """Width of the residual stream."""
    context: int
    """Trained context length in tokens."""
    sliding: tuple[bool, ...]
    """Per layer: True for sliding-window attention, False for full attention."""
    window: int
    """Size of the sliding window in tokens."""
    heads: int
    kv_heads: int
    global_kv_heads: int | None
    """Key-value heads of full-attention layers; None: `kv_heads`."""
    head_dim: int
    global_head_dim: int
    ffn: int
    """Width of the MLP."""
    double_wide: bool
    """Whether layers that share keys and values have an MLP of twice the width."""
    shared_kv: int
    """Number of layers at the end that read the keys and values of earlier layers."""
    keys_are_values: bool
    """Whether full-attention layers have no value projection and use the keys as values."""
    ple: int
    """Width of the per-layer embeddings; 0: none."""
    moe: bool
    experts: int | None
    experts_used: int | None
    expert_ffn: int | None
    softcap: float | None
    epsilon: float
    rope_theta: float
    rope_theta_sliding: float
    rotary_factor: float
    """Fraction of a full-attention head that is rotated."""
    tied: bool
    """Whether the output head is the embedding table."""
    backbone: int | None
    """Hidden size of a drafter's target; None for a target."""

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.sliding)

    def head_dim_at(self, layer: int) -> int:
        """Width of an attention head."""
        return self.head_dim if self.sliding[layer] else self.global_head_dim

    def kv_heads_at(self, layer: int) -> int:
        """Number of key and value heads."""
        return self.kv_heads if self.sliding[layer] else self.global_kv_heads or self.kv_heads

    def ffn_at(self, layer: int) -> int:
        """Width of the MLP."""
        return self.ffn * 2 if self.double_wide and self.shares_kv(layer) else self.ffn

    def shares_kv(self, layer: int) -> bool:
        """Whether a layer reads the keys and values of an earlier one."""
        return layer >= self.layers - self.shared_kv


def read_config(checkpoint: Checkpoint, hf_class: str) -> Gemma4Config:
    """Read the sizes from a checkpoint's configuration.

    Args:
        checkpoint: config.json is read.
        hf_class: one of TARGETS and DRAFTERS.

    Raises:
        LocalmtpError: a value is invalid.
    """
    path = checkpoint.directory / "config.json"
    top = ConfigSection(path, checkpoint.config)
    text = top.section("text_config") if "text_config" in checkpoint.config else top
    _refuse_unsupported(text)
    drafter = hf_class in DRAFTERS
    sliding = _layer_types(text)
    head_dim = text.count("head_dim", 256)
    global_head_dim, global_kv_heads = _full_attention(text, sliding, head_dim)
    if max(head_dim, global_head_dim) > _MAX_HEAD_DIM:
        raise text.invalid("global_head_dim" if global_head_dim > head_dim else "head_dim")
    stated = text.section("rope_parameters").raw if text.raw.get("rope_parameters") else {}
    rope = ConfigSection(path, {**DEFAULT_ROPE, **stated})
    full, local = rope.section("full_attention"), rope.section("sliding_attention")
    shared_kv = text.count("num_kv_shared_layers", 0, at_least=0)
    if shared_kv > len(sliding):
        raise text.invalid("num_kv_shared_layers")
    found = Gemma4Config(
        hf_class=hf_class,
        vocab=text.count("vocab_size", 262_144),
        hidden=text.count("hidden_size", 2304),
        context=text.count("max_position_embeddings", 262_144 if _unified(hf_class) else 131_072),
        sliding=sliding,
        window=text.count("sliding_window", 1024 if _unified(hf_class) else 512),
        heads=text.count("num_attention_heads", 8),
        kv_heads=text.count("num_key_value_heads", 4),
        global_kv_heads=global_kv_heads,
        head_dim=head_dim,
        global_head_dim=global_head_dim,
        ffn=text.count("intermediate_size", 9216),
        double_wide=bool(text.raw.get("use_double_wide_mlp")),
        shared_kv=shared_kv or (len(sliding) if drafter else 0),
        keys_are_values=bool(text.raw.get("attention_k_eq_v")),
        ple=text.count(
            "hidden_size_per_layer_input", 0 if drafter or _unified(hf_class) else 256, at_least=0
        ),
        moe=bool(text.raw.get("enable_moe_block")),
        experts=text.optional_count("num_experts"),
        experts_used=text.optional_count("top_k_experts"),
        expert_ffn=text.optional_count("moe_intermediate_size"),
        softcap=text.number("final_logit_softcapping", 0.0) or None,
        epsilon=text.number("rms_norm_eps", 1e-6),
        rope_theta=full.number("rope_theta", 1e6),
        rope_theta_sliding=local.number("rope_theta", 1e4),
        rotary_factor=full.number("partial_rotary_factor", 0.25),
        tied=checkpoint.config.get("tie_word_embeddings", text.raw.get("tie_word_embeddings", True))
        is not False,
        backbone=top.count("backbone_hidden_size", 1536) if drafter else None,
    )
    _refuse_inconsistent(text, found)
    return found


def _unified(hf_class: str) -> bool:
    return hf_class.startswith("Gemma4Unified")


def _refuse_unsupported(text: ConfigSection) -> None:
    expected = {
        "hidden_activation": (None, "gelu_pytorch_tanh"),
        "attention_bias": (None, False),
        "use_bidirectional_attention": (None, "vision"),
    }
    for key, values in expected.items():
        if text.raw.get(key) not in values:
            raise text.invalid(key)


def _refuse_inconsistent(text: ConfigSection, config: Gemma4Config) -> None:
    """Refuse sizes that contradict each other, for which libllama would abort the process."""
    experts, used = config.experts or 0, config.experts_used or 0
    if experts > MAX_EXPERTS:
        raise text.invalid("num_experts")
    if used > experts or (experts and not used):
        raise text.invalid("top_k_experts")
    if config.moe and not (experts and config.expert_ffn):
        raise text.invalid("moe_intermediate_size" if experts else "num_experts")
    if config.backbone is None and config.shared_kv:
        # In libllama sliding layers share with the second last layer that has its own keys and
        # values, full-attention layers with the last one.
        own = config.sliding[: -config.shared_kv]
        shared = config.sliding[-config.shared_kv :]
        if (True in shared and own[-2:-1] != (True,)) or (False in shared and own[-1:] != (False,)):
            raise text.invalid("num_kv_shared_layers")


def _layer_types(text: ConfigSection) -> tuple[bool, ...]:
    """Layers with a sliding window; by default five of them before each full-attention layer."""
    layers = text.count("num_hidden_layers", 30)
    if layers > MAX_LAYERS:
        raise text.invalid("num_hidden_layers")
    names = text.raw.get("layer_types")
    if names is None:
        return (*(bool((i + 1) % 6) for i in range(layers - 1)), False)
    if (
        not isinstance(names, list)
        or len(names) != layers
        or any(not isinstance(name, str) or name not in _LAYER_TYPES for name in names)
    ):
        raise text.invalid("layer_types")
    return tuple(_LAYER_TYPES[name] for name in names)


def _full_attention(
    text: ConfigSection, sliding: tuple[bool, ...], head_dim: int
) -> tuple[int, int | None]:
    """Head size of full-attention layers, and their number of key-value heads if it differs."""
    if text.raw.get("per_layer_config") is None:
        # As in transformers: the number of heads applies only where keys serve as values.
        global_heads = text.optional_count("num_global_key_value_heads")
        return (
            text.count("global_head_dim", 512),
            global_heads if text.raw.get("attention_k_eq_v") else None,
        )
    layers = text.section("per_layer_config")
    for key in layers.raw:
        if not key.isdecimal() or len(key) > _MAX_DIGITS or int(key) >= len(sliding):
            raise text.invalid("per_layer_config")
        if not sliding[int(key)]:
            layer = layers.section(key)
            return (
                text.count("global_head_dim", layer.count("head_dim", head_dim)),
                layer.optional_count("num_key_value_heads"),
            )
    return text.count("global_head_dim", head_dim), None
