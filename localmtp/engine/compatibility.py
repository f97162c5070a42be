"""Checks that a file is a target, and that a drafter fits it; for headers and for loaded models.

An MTP drafter reads the target's hidden states and KV cache, so it works only with the size it was
trained for. With another it drafts nonsense, or libllama aborts the process. A draft model is any
other model with the target's vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from localmtp.errors import LocalmtpError

TARGET, DRAFTER = "gemma4", "gemma4-assistant"
"""Architectures of MTP pairs."""

PROJECTOR = "clip"
"""Architecture of projectors, which encode images and sound."""

FORKS = ("gemma4_assistant", "gemma4_mtp")
"""Drafter architectures of llama.cpp forks; mainline loads neither."""

FIRST_TENSOR = "blk.0.attn_norm.weight"
"""Tensor that files with an MTP head alone do not have; libllama tells them by it."""

_OTHER_DRAFTERS = ("eagle3", "dflash")
"""Drafters that libllama loads and this program does not drive."""

_NOT_TEXT = {
    "wavtokenizer-dec": "a decoder of sound",
    "qwen3tts": "a speech model",
    "pockettts": "a speech model",
    **dict.fromkeys(
        (
            "bert",
            "modern-bert",
            "nomic-bert",
            "nomic-bert-moe",
            "neo-bert",
            "jina-bert-v2",
            "jina-bert-v3",
            "eurobert",
            "gemma-embedding",
            "llama-embed",
        ),
        "an embedding model",
    ),
    **dict.fromkeys(("t5", "t5encoder"), "a model with an encoder"),
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), "a diffusion model"),
}
"""Architectures of libllama that do not continue a text token by token."""

_RECURRENT = frozenset(
    {
        "mamba",
        "mamba2",
        "rwkv6",
        "rwkv6qwen2",
        "rwkv7",
        "arwkv7",
        "jamba",
        "falcon-h1",
        "plamo2",
        "granitehybrid",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen3next",
        "kimi-linear",
        "bailingmoe3",
        "kimi-k3",
        "glm5-next",
        "qwen35",
        "qwen35moe",
        "qwen4exp",
        "deepseek4",
        "minimax-01",
    }
)
"""Architectures with a recurrent state (`llm_arch_is_recurrent` and `_is_hybrid`), which is not
rolled back to any position."""

_SIZE_DIFFERENCE = 128
"""Largest difference of vocabulary sizes: padding of the embeddings (llama.cpp's
`SPEC_VOCAB_MAX_SIZE_DIFFERENCE`)."""

_WITHOUT = "`--drafter none` runs without one"


class DrafterKind(Enum):
    """Kinds of drafters; the value is the display name."""

    ASSISTANT = "MTP assistant"
    """Reads the target's KV cache: Gemma 4's `gemma4-assistant`."""
    HEAD = "MTP head"
    """A last block of the target's own architecture with a KV cache of its own, in the target's
    file or in a file without the other blocks."""
    MODEL = "draft model"
    """Any smaller model with the target's vocabulary and a KV cache of its own (llama.cpp's
    `-md`)."""


CROPPED_HEADS = frozenset({"deepseek4", "mimo2", "qwen3next", "step35"})
"""Heads that compute hidden states of rows with logits only; others compute those of all rows, and
masked give the first rows of a pass."""

CHAINED_HEADS = frozenset({"hy_v3", "mimo2", "step35"})
"""Architectures with several heads that libllama can run, one for each draft step: their graph
selects a head (`llama_set_nextn_layer_offset`); others end the process on a second head."""

HEADS = frozenset(
    {
        "qwen35",
        "qwen35moe",
        "glm4moe",
        "deepseek2",
        "deepseek32",
        "glm-dsa",
        "qwen3next",
        "nemotron_h_moe",
        "bailingmoe3",
        "cohere2moe",
        "mimo2",
        "hy_v3",
        "deepseek4",
        "step35",
    }
)
"""Architectures whose MTP head libllama runs. Others that declare `nextn_predict_layers` have no
graph for it: libllama would run the target's instead."""


def heads_run(architecture: str, n_heads: int) -> int:
    """Returns how many MTP heads of a file libllama runs: all or none.

    Args:
        architecture: value of `general.architecture`.
        n_heads: value of `nextn_predict_layers`.
    """
    one_or_chained = n_heads == 1 or architecture in CHAINED_HEADS
    return n_heads if architecture in HEADS and one_or_chained else 0


@dataclass(frozen=True, slots=True)
class Traits:
    """Properties of a model that determine which files fit together."""

    name: str
    """Display name, for errors."""
    architecture: str
    """Value of `general.architecture`; empty if it is missing."""
    embedding_length: int
    embedding_length_out: int
    """Width of the hidden state that a drafter exchanges with its target."""
    n_vocab: int
    sliding: bool = True
    """Whether some layers have a sliding window; True if unknown."""
    n_heads: int = 0
    """Value of `nextn_predict_layers`: number of MTP heads after the other blocks."""
    head: bool = True
    """Whether the tensors of the head are in the file; True if unknown."""
    trunk: bool = True
    """Whether the tensors of the other blocks are in the file; True if unknown."""

    @property
    def has_head(self) -> bool:
        """Whether the file holds MTP heads that libllama runs."""
        return self.head and heads_run(self.architecture, self.n_heads) > 0

    @property
    def own_head(self) -> str:
        """Display name of the MTP heads in the file."""
        return HEAD_IN_FILE if self.n_heads < 2 else f"{self.n_heads} MTP heads in the file"


HEAD_IN_FILE = "MTP head in the file"
"""Display name of a drafter that is part of its target."""


def why_no_head(target: Traits) -> str:
    """Reason why a target that declares MTP heads does not draft with them; else empty."""
    if not target.n_heads or target.architecture == DRAFTER or target.has_head:
        return ""
    if target.architecture not in HEADS:
        return f"libllama does not run MTP heads of `{target.architecture}`"
    if not target.head:
        return f"the MTP head of {target.name} was left out"
    return (
        f"libllama runs one MTP head of `{target.architecture}`; {target.name} has {target.n_heads}"
    )


def is_recurrent(architecture: str) -> bool:
    """Returns whether models of this architecture have a recurrent state."""
    return architecture in _RECURRENT


def why_no_target(architecture: str) -> str:
    """Returns the reason why a file cannot be a target; empty if it can."""
    if architecture in (DRAFTER, *FORKS, *_OTHER_DRAFTERS):
        return "is a drafter, not a target"
    if architecture == PROJECTOR:
        return "is a projector, not a target"
    if not architecture:
        return "has no architecture in its header"
    kind = _NOT_TEXT.get(architecture)
    return f"is {kind} (`{architecture}`), which does not generate text" if kind else ""


def check_target(target: Traits) -> None:
    """Refuse a model that cannot be a target.

    Raises:
        LocalmtpError: it is a drafter, does not generate text, or cannot be run by libllama.
    """
    if not target.trunk:
        raise LocalmtpError(
            f"{target.name} holds an MTP head without its target",
            hint="name the target as MODEL and this file with `--drafter`",
        )
    reason = why_no_target(target.architecture)
    if not reason:
        _require_sliding(target)
        return
    hints = {
        "is a drafter": "name the target as MODEL and this file with `--drafter`",
        "is a projector": "name the target as MODEL and this file with `--mmproj`",
    }
    hint = next((hints[start] for start in hints if reason.startswith(start)), "")
    raise LocalmtpError(
        f"{target.name} {reason}",
        hint=hint or "localmtp runs text models: `localmtp list --all` shows some",
    )


def drafter_kind(target: Traits, drafter: Traits) -> DrafterKind:
    """Decides from what two files say how one drafts for the other.

    Args:
        target: the target.
        drafter: the file given as its drafter; the target itself for a head in its file.

    Raises:
        LocalmtpError: it cannot draft for the target; see `check_pair`.
    """
    if drafter.architecture in FORKS:
        raise fork_format(drafter.name, drafter.architecture)
    if drafter.architecture == DRAFTER:
        _check_assistant(target, drafter)
        return DrafterKind.ASSISTANT
    if drafter.has_head and (drafter is target or not drafter.trunk):
        _check_head(target, drafter)
        return DrafterKind.HEAD
    _check_draft_model(target, drafter)
    return DrafterKind.MODEL


def check_pair(target: Traits, drafter: Traits) -> None:
    """Refuse a drafter that cannot draft for the target.

    Raises:
        LocalmtpError: it has a fork's format, was made for another target, has another vocabulary,
            or cannot be run by libllama.
    """
    drafter_kind(target, drafter)


def _check_head(target: Traits, drafter: Traits) -> None:
    """Refuse a head that was made for another target."""
    if drafter.architecture != target.architecture:
        raise LocalmtpError(
            f"{drafter.name} has the head of a `{drafter.architecture}`; "
            f"{target.name} is a `{target.architecture}`",
            hint=_WITHOUT,
        )
    if drafter.embedding_length != target.embedding_length:
        raise LocalmtpError(
            f"{drafter.name} was made for a target of embedding length "
            f"{drafter.embedding_length}; {target.name} has {target.embedding_length}",
            hint=_WITHOUT,
        )
    _check_vocabulary(target, drafter)


def _check_assistant(target: Traits, drafter: Traits) -> None:
    """Refuse a `gemma4-assistant` that was made for another target."""
    if target.architecture != TARGET:
        raise LocalmtpError(
            f"{drafter.name} drafts for Gemma 4; {target.name} is a `{target.architecture}`",
            hint=f"use a smaller model with the same vocabulary; {_WITHOUT}",
        )
    if drafter.embedding_length_out != target.embedding_length:
        raise LocalmtpError(
            f"{drafter.name} was made for a target of embedding length "
            f"{drafter.embedding_length_out}; {target.name} has {target.embedding_length}",
            hint=_WITHOUT,
        )
    _check_vocabulary(target, drafter)
    _require_sliding(drafter)


def _check_vocabulary(target: Traits, drafter: Traits) -> None:
    if drafter.n_vocab != target.n_vocab:
        raise LocalmtpError(
            f"{drafter.name} has a vocabulary of {drafter.n_vocab} tokens; "
            f"{target.name} has {target.n_vocab}",
            hint=_WITHOUT,
        )


def _check_draft_model(target: Traits, drafter: Traits) -> None:
    reason = why_no_target(drafter.architecture)
    if not drafter.trunk:
        reason = "holds an MTP head without its target, which libllama does not run"
    if not reason and is_recurrent(drafter.architecture):
        reason = f"has a recurrent state (`{drafter.architecture}`), which drafts cannot roll back"
    if reason.startswith("is a drafter"):
        reason = f"is a drafter of another kind (`{drafter.architecture}`)"
    if not reason and abs(drafter.n_vocab - target.n_vocab) > _SIZE_DIFFERENCE:
        reason = (
            f"has a vocabulary of {drafter.n_vocab} tokens and {target.name} one of "
            f"{target.n_vocab}"
        )
    if reason:
        raise LocalmtpError(
            f"{drafter.name} cannot draft: it {reason}",
            hint=f"use a smaller model with the same vocabulary; {_WITHOUT}",
        )
    _require_sliding(drafter)


def _require_sliding(model: Traits) -> None:
    """Refuse a Gemma 4 without sliding-window layers: libllama would abort."""
    if model.architecture in (TARGET, DRAFTER) and not model.sliding:
        raise LocalmtpError(
            f"{model.name} has no sliding-window layer, which libllama requires of a Gemma 4"
        )


def fork_format(name: str, architecture: str) -> LocalmtpError:
    """Error for a drafter that only a fork of llama.cpp can load."""
    return LocalmtpError(
        f"{name} has the fork format `{architecture}`; mainline llama.cpp needs `{DRAFTER}`",
        hint="convert the drafter again: `localmtp convert DRAFTER_SOURCE --out DIR`",
    )
