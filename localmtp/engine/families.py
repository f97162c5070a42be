"""What is known about families of models beyond what their files say.

Files come first: `general.sampling.*`, end-of-turn tokens and the chat template are read from them.
Sampling is what the publishers recommend on their model cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """Traits of a family."""

    name: str = ""
    """Empty for models of unknown families."""
    architectures: tuple[str, ...] = ()
    """Values of `general.architecture`."""
    named: tuple[str, ...] = ()
    """Beginnings of `general.name`, for architectures that several families share; empty for all
    names."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Recommended `temperature`, `top_k`, `top_p` and `min_p`."""
    window_period: int = 0
    """One layer of this many has full attention, the others a sliding window; 0 if the header
    says it or all layers are alike."""


_QWEN = {"temperature": 0.7, "top_k": 20, "top_p": 0.8}

FAMILIES = (
    ModelFamily("Gemma 4", ("gemma4",), sampling={"temperature": 1.0, "top_k": 64, "top_p": 0.95}),
    ModelFamily(
        "Gemma 3",
        ("gemma3", "gemma3n"),
        sampling={"temperature": 1.0, "top_k": 64, "top_p": 0.95},
        window_period=6,
    ),
    ModelFamily(
        "Gemma 2",
        ("gemma2",),
        sampling={"temperature": 1.0, "top_k": 64, "top_p": 0.95},
        window_period=2,
    ),
    ModelFamily(
        "Qwen 3",
        ("qwen3", "qwen3moe", "qwen3next", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"),
        sampling=_QWEN,
    ),
    ModelFamily("Qwen 2", ("qwen2", "qwen2moe", "qwen2vl"), sampling=_QWEN),
    ModelFamily("SmolLM 3", ("smollm3",), sampling={"temperature": 0.6, "top_k": 0, "top_p": 0.95}),
    ModelFamily(
        "SmolLM",
        ("llama",),
        ("smollm",),
        sampling={"temperature": 0.2, "top_k": 0, "top_p": 0.9},
    ),
    ModelFamily(
        "Mistral",
        ("llama", "mistral3", "mistral4"),
        ("mistral", "ministral", "magistral", "devstral"),
        sampling={"temperature": 0.15, "top_k": 0, "top_p": 1.0},
    ),
    ModelFamily(
        "Llama 3",
        ("llama",),
        ("llama", "meta-llama", "meta llama"),
        sampling={"temperature": 0.6, "top_k": 0, "top_p": 0.9},
    ),
    ModelFamily(
        "gpt-oss",
        ("gpt-oss",),
        sampling={"temperature": 1.0, "top_k": 0, "top_p": 1.0},
        window_period=2,
    ),
    ModelFamily("Cohere 2", ("cohere2",), window_period=4),
)
"""In order of preference."""

UNKNOWN = ModelFamily()


def family_of(architecture: str, name: str = "") -> ModelFamily:
    """Returns the family of a model; `UNKNOWN` if there is none.

    Args:
        architecture: `general.architecture`.
        name: `general.name`; it decides among families that share an architecture.
    """
    lower = name.lower()
    for family in FAMILIES:
        named = not family.named or lower.startswith(family.named)
        if architecture in family.architectures and named:
            return family
    return UNKNOWN
