"""Which drafter belongs to which target, by what the files say of themselves."""

from __future__ import annotations

import re

from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header

TARGET, DRAFTER = "gemma4", "gemma4-assistant"

FORKS = ("gemma4_assistant", "gemma4_mtp")
"""Drafter dialects of llama.cpp forks; mainline loads neither."""

_DRAFTER_NAME = re.compile(r"(^|[^a-z0-9])mtp([^a-z0-9]|$)|assistant", re.IGNORECASE)
_QAT_NAME = re.compile(r"(^|[^a-z0-9])qat([^a-z0-9]|$)", re.IGNORECASE)
_LINEAGE_KEYS = re.compile(
    r"general\.(name|basename|finetune|repo_url|source\.(url|repo_url|huggingface\.repository)"
    r"|base_model\.\d+\.(name|repo_url))"
)


def names_a_drafter(path: str) -> bool:
    """Whether a file's name or folder is one that drafters are published under.

    Seen on the hub: `mtp-NAME.gguf`, `NAME-MTP.gguf`, `MTP/NAME.gguf`, `NAME-assistant.gguf`.
    """
    return path.lower().endswith(".gguf") and any(
        _DRAFTER_NAME.search(part) for part in path.replace("\\", "/").split("/")[-2:]
    )


def is_qat(header: Header, *names: str) -> bool:
    """Whether a file is of quantization-aware training, as far as it or its names tell."""
    said = (str(v) for key, v in header.values.items() if _LINEAGE_KEYS.fullmatch(key))
    return any(says_qat(text) for text in (*names, *said))


def says_qat(text: str) -> bool:
    """Whether a name speaks of quantization-aware training."""
    return _QAT_NAME.search(text) is not None


def check_target(header: Header, name: str) -> None:
    """Refuse a file that cannot be a target.

    Raises:
        LocalmtpError: a drafter, or a model of another architecture.
    """
    if header.architecture in (DRAFTER, *FORKS):
        raise LocalmtpError(
            f"{name} is a drafter, not a target",
            hint="name the target as MODEL and this file with `--drafter`",
        )
    if header.architecture != TARGET:
        raise LocalmtpError(
            f"{name} has the architecture `{header.architecture or 'unknown'}`; "
            f"localmtp runs `{TARGET}`",
            hint="try `localmtp list` for the models that it knows",
        )


def check_pair(target: Header, drafter: Header, target_name: str, drafter_name: str) -> None:
    """Refuse a drafter that cannot draft for the target.

    Raises:
        LocalmtpError: not a drafter, of a fork's format, or made for another target.
    """
    if drafter.architecture in FORKS:
        raise LocalmtpError(
            f"{drafter_name} has the fork format `{drafter.architecture}`; "
            f"mainline llama.cpp needs `{DRAFTER}`",
            hint="convert the drafter anew: `localmtp convert DRAFTER_SOURCE --out DIR`",
        )
    if drafter.architecture != DRAFTER:
        raise LocalmtpError(
            f"{drafter_name} is not a drafter: its architecture is "
            f"`{drafter.architecture or 'unknown'}`",
            hint=f"a drafter's is `{DRAFTER}`; `--drafter none` runs without one",
        )
    made_for, offered = drafter.number("embedding_length_out"), target.number("embedding_length")
    if made_for != offered:
        raise LocalmtpError(
            f"{drafter_name} is made for a target of embedding length {made_for}; "
            f"{target_name} has {offered}",
            hint="`--drafter none` runs without one",
        )
    if drafter.n_vocab != target.n_vocab:
        raise LocalmtpError(
            f"{drafter_name} has a vocabulary of {drafter.n_vocab} tokens; "
            f"{target_name} has {target.n_vocab}",
            hint="`--drafter none` runs without one",
        )


def lineage_warning(target_qat: bool, drafter_qat: bool, target: str, drafter: str) -> str:
    """One line when quantization-aware training is on one side only, else nothing.

    Such a pair loads and drafts; on 31B its acceptance was seen to fall from 0.57 to 0.34.
    """
    if target_qat == drafter_qat:
        return ""
    one, other = (target, drafter) if target_qat else (drafter, target)
    return f"{one} is QAT and {other} does not say so: expect fewer accepted drafts"
