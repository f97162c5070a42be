"""Which files can be a target, and which a drafter for it: one rule, for headers and for models.

An MTP drafter reads the target's hidden rows and KV cache, so it works with the one size that it
was trained for; with another it drafts nonsense, or libllama ends the process.
"""

from __future__ import annotations

from dataclasses import dataclass

from localmtp.errors import LocalmtpError

TARGET, DRAFTER = "gemma4", "gemma4-assistant"

FORKS = ("gemma4_assistant", "gemma4_mtp")
"""Drafter dialects of llama.cpp forks; mainline loads neither."""

_WITHOUT = "`--drafter none` runs without one"


@dataclass(frozen=True, slots=True)
class Traits:
    """What decides whether files belong together."""

    name: str
    """As shown to people."""
    architecture: str
    """Of GGUF's `general.architecture`; empty when the file does not say."""
    embedding_length: int
    embedding_length_out: int
    """What a drafter gives back to its target."""
    n_vocab: int
    sliding: bool = True
    """Whether some layers have a sliding window; True where that is not known."""


def check_target(target: Traits) -> None:
    """Refuse what cannot be a target.

    Raises:
        LocalmtpError: a drafter, a model of another architecture, or one that libllama cannot run.
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
            hint="try `localmtp list` for the models that it knows",
        )
    _require_sliding(target)


def check_pair(target: Traits, drafter: Traits) -> None:
    """Refuse a drafter that cannot draft for the target.

    Raises:
        LocalmtpError: not a drafter, of a fork's format, made for another target, or one that
            libllama cannot run.
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
            f"{drafter.name} is made for a target of embedding length "
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
    """Where libllama finds none, in a target or a drafter, it ends the process."""
    if not model.sliding:
        raise LocalmtpError(
            f"{model.name} has no layer with a sliding window; libllama runs no such Gemma 4"
        )


def fork_format(name: str, architecture: str) -> LocalmtpError:
    """The error about a drafter that only a fork of llama.cpp loads."""
    return LocalmtpError(
        f"{name} has the fork format `{architecture}`; mainline llama.cpp needs `{DRAFTER}`",
        hint="convert the drafter anew: `localmtp convert DRAFTER_SOURCE --out DIR`",
    )
