"""Which drafter belongs to which target, by what the files say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from localmtp.engine.compatibility import Traits, check_pair
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header

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

    @property
    def traits(self) -> Traits:
        """What decides about pairing."""
        header = self.header
        pattern = header.setting("attention.sliding_window_pattern")
        return Traits(
            name=self.name,
            architecture=header.architecture,
            embedding_length=header.number("embedding_length"),
            embedding_length_out=header.number("embedding_length_out"),
            n_vocab=header.n_vocab,
            sliding=any(pattern) if isinstance(pattern, tuple) else True,
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
            check_pair(target.traits, drafter.traits)
        except LocalmtpError as fault:
            why = fault.message
            continue
        warnings = lineage_warnings(target, drafter)
        found = Found(file, "", agreement(target, drafter), warnings)
        if not warnings:
            return found
        mixed = mixed or found
    return mixed or Found(None, why)
