"""Choosing among the files of a repository by what their names say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from localmtp.models.naming.pairing import names_a_drafter, says_qat

_LABEL = re.compile(
    r"(?<![a-z0-9])((?:UD-)?(?:I?Q\d_[A-Z0-9]+(?:_[A-Z]+)?|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|F32))"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_NOT_A_TARGET = re.compile(r"mmproj|imatrix|dflash", re.IGNORECASE)

# Good answers for their size, first.
_PREFERRED = ("Q4_K_M", "UD-Q4_K_XL", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0")
_PREFERRED_QAT = ("Q4_0", "UD-Q4_K_XL", "Q4_K_M")


def quant_label(name: str) -> str:
    """The quantization that a file's name states, such as `Q4_K_M`; empty when it states none."""
    labels = _LABEL.findall(name.rpartition("/")[2])
    return str(labels[-1]).upper() if labels else ""


def target_names(names: Iterable[str]) -> list[str]:
    """The files that can be targets; of one in several parts, the first."""
    return [
        name
        for name in names
        if not names_a_drafter(name)
        and not _NOT_A_TARGET.search(name)
        and _part_number(name) in ("", "00001")
    ]


def pick_target(names: Sequence[str], pattern: str, label: str) -> str | None:
    """The file that a pattern or a quantization asks for.

    Args:
        names: files of a repository.
        pattern: as in the registry; empty for none.
        label: a quantization in any case; empty for the best one for most people.
    """
    for name in names:
        if pattern and fnmatchcase(name, pattern):
            return name
    by_label = {quant_label(name): name for name in reversed(target_names(names))}
    if label:
        return by_label.get(label.upper())
    qat = any(says_qat(name) for name in by_label.values())
    preferred = _PREFERRED_QAT if qat else _PREFERRED
    return next(
        (by_label[p] for p in preferred if p in by_label), next(iter(by_label.values()), None)
    )


def drafter_names(names: Iterable[str], pattern: str, label: str) -> list[str]:
    """Files that may be the drafter of a target, likely ones first.

    A pattern of the registry comes first, then a file in the root folder (which llama.cpp
    finds by itself), the target's own quantization, and the name.
    """

    def unlikelihood(name: str) -> tuple[bool, bool, bool, str]:
        return (
            not (pattern and fnmatchcase(name, pattern)),
            "/" in name,
            quant_label(name) != label,
            name,
        )

    return sorted(filter(names_a_drafter, names), key=unlikelihood)


def parts_of(names: Iterable[str], first: str) -> list[str]:
    """All the files of a model whose first one is given, in order."""
    if not _part_number(first):
        return [first]
    stem = _PART.sub("", first)
    return sorted(n for n in names if _part_number(n) and _PART.sub("", n) == stem)


def n_parts(name: str) -> int:
    """How many files the model has that this is a part of."""
    match = _PART.search(name)
    return int(match[2]) if match else 1


def _part_number(name: str) -> str:
    match = _PART.search(name)
    return match[1] if match else ""
