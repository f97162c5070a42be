"""Pairing targets and drafters by what their GGUF headers and names say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Generic, TypeVar

from localmtp.engine.compatibility import (
    FIRST_TENSOR,
    DrafterKind,
    Traits,
    check_pair,
    drafter_kind,
    why_no_head,
)
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header
from localmtp.models.gguf_settings import check_lengths

File = TypeVar("File")

_DRAFTER_NAME = re.compile(r"(^|[^a-z0-9])mtp([^a-z0-9]|$)|assistant", re.IGNORECASE)
_QAT_NAME = re.compile(r"(^|[^a-z0-9])qat([^a-z0-9]|$)", re.IGNORECASE)
_LINEAGE_KEYS = re.compile(
    r"general\.(name|basename|finetune|repo_url|source\.(url|repo_url|huggingface\.repository)"
    r"|base_model\.\d+\.(name|repo_url))"
)


def names_a_drafter(path: str) -> bool:
    """Reports whether a file has a name, or a folder, that drafters are published under.

    Seen on the hub: `mtp-NAME.gguf`, `NAME-MTP.gguf`, `MTP/NAME.gguf`, `NAME-assistant.gguf`.
    """
    return path.lower().endswith(".gguf") and any(
        _DRAFTER_NAME.search(part) for part in path.replace("\\", "/").split("/")[-2:]
    )


def name_similarity(one: str, other: str) -> float:
    """Returns how similar two names are, 0 to 1."""
    return SequenceMatcher(None, one, other).ratio()


def mentions_qat(text: str) -> bool:
    """Reports whether a name mentions quantization-aware training."""
    return _QAT_NAME.search(text) is not None


@dataclass(frozen=True, slots=True)
class DescribedFile:
    """A GGUF file with its header and origin."""

    name: str
    """Display name."""
    header: Header
    repository: str = ""
    """Repository on the hub; empty if unknown."""

    @property
    def qat(self) -> bool:
        """Whether names or metadata mention quantization-aware training."""
        lineage = (str(v) for key, v in self.header.values.items() if _LINEAGE_KEYS.fullmatch(key))
        return any(mentions_qat(text) for text in (self.name, self.repository, *lineage))

    @property
    def traits(self) -> Traits:
        """Traits that decide about pairing."""
        header = self.header
        pattern = header.setting("attention.sliding_window_pattern")
        return Traits(
            name=self.name,
            architecture=header.architecture,
            embedding_length=header.number("embedding_length"),
            embedding_length_out=header.number("embedding_length_out"),
            n_vocab=header.n_vocab,
            sliding=any(pattern) if isinstance(pattern, tuple) else True,
            n_heads=header.number("nextn_predict_layers"),
            head=not header.tensors or any(".nextn." in t.name for t in header.tensors),
            trunk=not header.tensors or any(t.name == FIRST_TENSOR for t in header.tensors),
        )


def require_match(target: DescribedFile, drafter: DescribedFile) -> None:
    """Checks that a drafter can draft for a target.

    Raises:
        LocalmtpError: it cannot.
    """
    check_pair(target.traits, drafter.traits)
    check_lengths(target.header, drafter.header, drafter.name)


def agreement(target: DescribedFile, drafter: DescribedFile) -> str:
    """Returns the reasons why two files are a pair, human-readable."""
    if kind_of(target, drafter) is DrafterKind.MODEL:
        return f"a draft model with the same vocabulary of {drafter.header.n_vocab} tokens"
    lineage = {(True, True): "both QAT", (False, False): "neither is QAT"}
    return (
        f"made for embedding length {target.header.number('embedding_length')}, "
        f"both know {target.header.n_vocab} tokens, "
        f"{lineage.get((target.qat, drafter.qat), 'one QAT and one not')}"
    )


def lineage_warnings(target: DescribedFile, drafter: DescribedFile) -> tuple[str, ...]:
    """Returns a warning if quantization-aware training is on one side only.

    Such a pair works, but acceptance falls: on 31B from 0.57 to 0.34.
    """
    if target.qat == drafter.qat or kind_of(target, drafter) is DrafterKind.MODEL:
        return ()
    one, other = (target, drafter) if target.qat else (drafter, target)
    return (f"{one.name} is QAT and {other.name} does not say so: expect fewer accepted drafts",)


def kind_of(target: DescribedFile, drafter: DescribedFile) -> DrafterKind:
    """Returns how one file drafts for another.

    Raises:
        LocalmtpError: it cannot.
    """
    return drafter_kind(target.traits, drafter.traits)


def _require_made_to_draft(target: DescribedFile, drafter: DescribedFile) -> None:
    """Refuses a draft model: `--drafter` chooses those."""
    if kind_of(target, drafter) is DrafterKind.MODEL:
        architecture = drafter.header.architecture
        raise LocalmtpError(
            f"{drafter.name} is not a drafter: its architecture is `{architecture}`"
        )


@dataclass(frozen=True, slots=True)
class DrafterChoice(Generic[File]):
    """The drafter chosen for a target, or the reason why there is none."""

    file: File | None
    why_not: str = ""
    """Empty if there is one."""
    why: str = ""
    """Reasons why it belongs to the target; see `agreement`."""
    warnings: tuple[str, ...] = ()


def best_drafter(
    target: DescribedFile,
    candidates: Iterable[tuple[File, Callable[[], DescribedFile]]],
    otherwise: str,
    own: File,
) -> DrafterChoice[File]:
    """Chooses a drafter: the target's own head, else the first candidate that matches the target.

    Candidates of the same lineage are preferred.

    Args:
        target: the target.
        candidates: files in order of preference, each with a function that reads its header.
        otherwise: reason to give if there are no candidates.
        own: file of the target.
    """
    if target.traits.has_head:
        return DrafterChoice(own, "", target.traits.own_head)
    why_not, mixed = why_no_head(target.traits) or otherwise, None
    for file, describe in candidates:
        try:
            drafter = describe()
            require_match(target, drafter)
            _require_made_to_draft(target, drafter)
        except LocalmtpError as fault:
            why_not = fault.message
            continue
        warnings = lineage_warnings(target, drafter)
        choice = DrafterChoice(file, "", agreement(target, drafter), warnings)
        if not warnings:
            return choice
        mixed = mixed or choice
    return mixed or DrafterChoice(None, why_not)
