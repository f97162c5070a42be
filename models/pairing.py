"""Which drafter belongs to which target, by what the files say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header

TARGET, DRAFTER = "gemma4", "gemma4-assistant"

FORKS = ("gemma4_assistant", "gemma4_mtp")
"""Drafter dialects of llama.cpp forks; mainline loads neither."""

File = TypeVar("File")

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


def says_qat(text: str) -> bool:
    """Whether a name speaks of quantization-aware training."""
    return _QAT_NAME.search(text) is not None


@dataclass(frozen=True, slots=True)
class Described:
    """A GGUF file by what it and its place say of it."""

    name: str
    """As shown to people."""
    header: Header
    place: str = ""
    """Its repository, where that tells something."""

    @property
    def qat(self) -> bool:
        """Whether it is of quantization-aware training, as far as it tells."""
        said = (str(v) for key, v in self.header.values.items() if _LINEAGE_KEYS.fullmatch(key))
        return any(says_qat(text) for text in (self.name, self.place, *said))


def check_target(target: Described) -> None:
    """Refuse a file that cannot be a target.

    Raises:
        LocalmtpError: a drafter, or a model of another architecture.
    """
    architecture = target.header.architecture
    if architecture in (DRAFTER, *FORKS):
        raise LocalmtpError(
            f"{target.name} is a drafter, not a target",
            hint="name the target as MODEL and this file with `--drafter`",
        )
    if architecture != TARGET:
        raise LocalmtpError(
            f"{target.name} has the architecture `{architecture or 'unknown'}`; "
            f"localmtp runs `{TARGET}`",
            hint="try `localmtp list` for the models that it knows",
        )


def check_pair(target: Described, drafter: Described) -> None:
    """Refuse a drafter that cannot draft for the target.

    Raises:
        LocalmtpError: not a drafter, of a fork's format, or made for another target.
    """
    architecture = drafter.header.architecture
    if architecture in FORKS:
        raise LocalmtpError(
            f"{drafter.name} has the fork format `{architecture}`; "
            f"mainline llama.cpp needs `{DRAFTER}`",
            hint="convert the drafter anew: `localmtp convert DRAFTER_SOURCE --out DIR`",
        )
    if architecture != DRAFTER:
        raise LocalmtpError(
            f"{drafter.name} is not a drafter: its architecture is `{architecture or 'unknown'}`",
            hint=f"a drafter's is `{DRAFTER}`; `--drafter none` runs without one",
        )
    made_for = drafter.header.number("embedding_length_out")
    offered = target.header.number("embedding_length")
    if made_for != offered:
        raise LocalmtpError(
            f"{drafter.name} is made for a target of embedding length {made_for}; "
            f"{target.name} has {offered}",
            hint="`--drafter none` runs without one",
        )
    if drafter.header.n_vocab != target.header.n_vocab:
        raise LocalmtpError(
            f"{drafter.name} has a vocabulary of {drafter.header.n_vocab} tokens; "
            f"{target.name} has {target.header.n_vocab}",
            hint="`--drafter none` runs without one",
        )


def agreement(target: Described, drafter: Described) -> str:
    """What makes two files a pair, in words."""
    lineage = {(True, True): "both QAT", (False, False): "neither is QAT"}
    return (
        f"made for embedding length {target.header.number('embedding_length')}, "
        f"both know {target.header.n_vocab} tokens, "
        f"{lineage.get((target.qat, drafter.qat), 'one QAT and one not')}"
    )


def lineage_warnings(target: Described, drafter: Described) -> tuple[str, ...]:
    """One line when quantization-aware training is on one side only.

    Such a pair loads and drafts; on 31B its acceptance was seen to fall from 0.57 to 0.34.
    """
    if target.qat == drafter.qat:
        return ()
    one, other = (target, drafter) if target.qat else (drafter, target)
    return (f"{one.name} is QAT and {other.name} does not say so: expect fewer accepted drafts",)


@dataclass(frozen=True, slots=True)
class Found(Generic[File]):
    """The drafter chosen for a target, or why there is none."""

    file: File | None
    why_not: str = ""
    why: str = ""
    """What makes it the target's."""
    warnings: tuple[str, ...] = ()


def best_drafter(
    target: Described,
    candidates: Iterable[tuple[File, Callable[[], Described]]],
    otherwise: str,
) -> Found[File]:
    """The first candidate that fits the target and is of its lineage, else the first that fits.

    Args:
        target: to be paired.
        candidates: files, likely ones first, each with what reads its header.
        otherwise: why there is none if there are no candidates.
    """
    why, mixed = otherwise, None
    for file, describe in candidates:
        try:
            drafter = describe()
            check_pair(target, drafter)
        except LocalmtpError as fault:
            why = fault.message
            continue
        warnings = lineage_warnings(target, drafter)
        found = Found(file, "", agreement(target, drafter), warnings)
        if not warnings:
            return found
        mixed = mixed or found
    return mixed or Found(None, why)
