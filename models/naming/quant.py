"""Choosing among the files of a repository by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from localmtp.models.naming.pairing import mentions_qat, names_a_drafter

_LABEL = re.compile(
    r"(?<![a-z0-9])((?:UD-)?(?:I?Q\d_[A-Z0-9]+(?:_[A-Z]+)?|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|F32))"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_SIDE_FILE = re.compile(r"(^|/)mtp[-_./]|assistant", re.IGNORECASE)
_NOT_A_TARGET = re.compile(r"mmproj|imatrix|dflash", re.IGNORECASE)

# Best quality for the size first.
_PREFERRED = ("Q4_K_M", "UD-Q4_K_XL", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0")
_PREFERRED_QAT = ("Q4_0", "UD-Q4_K_XL", "Q4_K_M")


def quant_label(name: str) -> str:
    """Returns the quantization type in a file name, such as `Q4_K_M`; empty if there is none."""
    labels = _LABEL.findall(name.rpartition("/")[2])
    return str(labels[-1]).upper() if labels else ""


def target_names(names: Iterable[str]) -> list[str]:
    """Returns the files that may be targets; of one in several parts, the first part.

    Where all files mention MTP, they are targets with an MTP head in the file, except those whose
    names begin with it.
    """
    models = [
        name
        for name in names
        if name.lower().endswith(".gguf")
        and not _NOT_A_TARGET.search(name)
        and _part_number(name) in ("", "00001")
    ]
    targets = [name for name in models if not names_a_drafter(name)]
    return targets or [name for name in models if not _SIDE_FILE.search(name)]


def pick_target(names: Sequence[str], pattern: str, label: str) -> str | None:
    """Returns the file that matches a pattern, else a quantization type; None if there is none.

    Args:
        names: files of a repository.
        pattern: glob pattern of the registry; empty for none.
        label: quantization type in any case; empty for the best general-purpose one.
    """
    for name in names:
        if pattern and fnmatchcase(name, pattern):
            return name
    by_label = {quant_label(name): name for name in reversed(target_names(names))}
    if label:
        return by_label.get(label.upper())
    qat = any(mentions_qat(name) for name in by_label.values())
    preferred = _PREFERRED_QAT if qat else _PREFERRED
    return next(
        (by_label[p] for p in preferred if p in by_label), next(iter(by_label.values()), None)
    )


def drafter_names(names: Iterable[str], pattern: str, label: str) -> list[str]:
    """Returns the files that may be the drafter of a target, likely ones first.

    A match of the registry's pattern comes first, then files in the root folder (where llama.cpp
    looks), then the target's own quantization type, then the order of names.
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
    """Returns all files of a model in order, given its first one."""
    if not _part_number(first):
        return [first]
    stem = _PART.sub("", first)
    return sorted(n for n in names if _part_number(n) and _PART.sub("", n) == stem)


def n_parts(name: str) -> int:
    """Returns the number of files of the model that a file belongs to."""
    match = _PART.search(name)
    return int(match[2]) if match else 1


def _part_number(name: str) -> str:
    match = _PART.search(name)
    return match[1] if match else ""
