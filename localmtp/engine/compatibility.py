"""Checks that a file is a target, and that a drafter fits it; for headers and for loaded models.

An MTP drafter reads the target's hidden states and KV cache, so it works only with the size it was
trained for. With another it drafts nonsense, or libllama aborts the process.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.errors import LocalmtpError

TARGET, DRAFTER = "gemma4", "gemma4-assistant"

FORKS = ("gemma4_assistant", "gemma4_mtp")
"""Drafter architectures of llama.cpp forks; mainline loads neither."""

_WITHOUT = "`--drafter none` runs without one"


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


def check_target(target: Traits) -> None:
    """Refuse a model that cannot be a target.

    Raises:
        LocalmtpError: it is a drafter, has another architecture, or cannot be run by libllama.
    """
    if target.architecture in (DRAFTER, *FORKS):
        raise LocalmtpError(
            f"{target.name} is a drafter, not a target",
            hint="name the target as MODEL and this file with `--drafter`",
        )
    if target.architecture != TARGET:
        raise LocalmtpError(
            f"{target.name} has the architecture `{target.architecture or 'unknown'}`; "
            f"localmtp runs `{TARGET}`",
            hint="`localmtp list` shows the supported models",
        )
    _require_sliding(target)


def check_pair(target: Traits, drafter: Traits) -> None:
    """Refuse a drafter that cannot draft for the target.

    Raises:
        LocalmtpError: it is not a drafter, has a fork's format, was made for another target, or
            cannot be run by libllama.
    """
    if drafter.architecture in FORKS:
        raise fork_format(drafter.name, drafter.architecture)
    if drafter.architecture != DRAFTER:
        raise LocalmtpError(
            f"{drafter.name} is not a drafter: its architecture is "
            f"`{drafter.architecture or 'unknown'}`",
            hint=f"a drafter's is `{DRAFTER}`; {_WITHOUT}",
        )
    if drafter.embedding_length_out != target.embedding_length:
        raise LocalmtpError(
            f"{drafter.name} was made for a target of embedding length "
            f"{drafter.embedding_length_out}; {target.name} has {target.embedding_length}",
            hint=_WITHOUT,
        )
    if drafter.n_vocab != target.n_vocab:
        raise LocalmtpError(
            f"{drafter.name} has a vocabulary of {drafter.n_vocab} tokens; "
            f"{target.name} has {target.n_vocab}",
            hint=_WITHOUT,
        )
    _require_sliding(drafter)


def _require_sliding(model: Traits) -> None:
    """Refuse a target or drafter without sliding-window layers: libllama would abort."""
    if not model.sliding:
        raise LocalmtpError(
            f"{model.name} has no sliding-window layer, which libllama requires of a Gemma 4"
        )


def fork_format(name: str, architecture: str) -> LocalmtpError:
    """Error for a drafter that only a fork of llama.cpp can load."""
    return LocalmtpError(
        f"{name} has the fork format `{architecture}`; mainline llama.cpp needs `{DRAFTER}`",
        hint="convert the drafter again: `localmtp convert DRAFTER_SOURCE --out DIR`",
    )
