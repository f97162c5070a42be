"""What a directory of converted files holds, by what the files say of themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from localmtp.convert.quality.report import SUFFIX, Report, read_report
from localmtp.engine.compatibility import DRAFTER, FORKS, TARGET
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header, Value, read_header
from localmtp.models.naming.quant import quant_label

CARD = "README.md"

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_PROJECTOR = "clip"
_IMATRIX = "imatrix"


@dataclass(frozen=True, slots=True)
class SharedModel:
    """A model in one file or several parts."""

    parts: Sequence[Path]
    header: Header
    """Of the first part."""
    size: int
    """Bytes of all parts."""
    bits_per_weight: float

    @property
    def name(self) -> str:
        """Its file's, or that of its first part."""
        return self.parts[0].name

    @property
    def quant(self) -> str:
        """As its name says; empty when that says none."""
        return quant_label(_PART.sub(r"\1.gguf", self.name))

    @property
    def kind(self) -> str:
        """`target`, `drafter`, `projector` or `imatrix`."""
        if self.header.values.get("general.type") == _IMATRIX:
            return _IMATRIX
        kinds = {TARGET: "target", DRAFTER: "drafter", _PROJECTOR: "projector"}
        return kinds.get(self.header.architecture, "")

    def said(self, key: str) -> Value | None:
        """A `general.*` value."""
        return self.header.values.get(f"general.{key}")


@dataclass(frozen=True, slots=True)
class Contents:
    """What is to be shared."""

    models: Sequence[SharedModel]
    """Targets first, larger ones first."""
    reports: Sequence[Report]
    card: str
    """The model card that somebody wrote; empty without one."""

    @property
    def targets(self) -> list[SharedModel]:
        """Models that answer."""
        return [model for model in self.models if model.kind == "target"]

    @property
    def drafters(self) -> list[SharedModel]:
        """Models that draft."""
        return [model for model in self.models if model.kind == "drafter"]

    @property
    def files(self) -> list[Path]:
        """All GGUF files."""
        return [part for model in self.models for part in model.parts]


def read_contents(directory: Path) -> Contents:
    """Look at a directory's GGUF files and reports.

    Raises:
        LocalmtpError: it is not there, or holds no Gemma 4, a model that lacks parts, or
            something else that has no place in such a repository.
    """
    if not directory.is_dir():
        raise LocalmtpError(
            f"{directory} is not a directory", hint="give the --out of localmtp convert"
        )
    models = [_model(parts) for parts in _whole_models(sorted(directory.glob("*.gguf")))]
    models.sort(key=lambda m: (m.kind != "target", m.kind, -m.size))
    if not any(model.kind in ("target", "drafter") for model in models):
        raise LocalmtpError(
            f"{directory} holds no GGUF file of a Gemma 4",
            hint="make some: localmtp convert SOURCE --out DIR",
        )
    reports = [read_report(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    return Contents(models, reports, _written_card(directory / CARD))


def _written_card(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise LocalmtpError(f"cannot read {path}: {error}") from error


def _whole_models(files: Sequence[Path]) -> list[list[Path]]:
    """Files by the model that they are parts of."""
    models: dict[str, list[Path]] = {}
    for file in files:
        part = _PART.fullmatch(file.name)
        models.setdefault(f"{part[1]} of {part[3]}" if part else file.name, []).append(file)
    for parts in models.values():
        part = _PART.fullmatch(parts[0].name)
        if part and len(parts) != int(part[3]):
            raise LocalmtpError(
                f"{parts[0]} is one of {int(part[3])} parts, and {len(parts)} are here",
                hint="put the others beside it, or move it away",
            )
    return list(models.values())


def _model(parts: Sequence[Path]) -> SharedModel:
    headers = [read_header(part) for part in parts]
    tensors = [tensor for header in headers for tensor in header.tensors]
    weights = sum(prod(tensor.shape) for tensor in tensors)
    bits = 8 * sum(tensor.nbytes for tensor in tensors) / weights if weights else 0.0
    size = sum(part.stat().st_size for part in parts)
    model = SharedModel(parts, headers[0], size, bits)
    if not model.kind:
        architecture = headers[0].architecture or "unknown"
        fork = " of a llama.cpp fork" if architecture in FORKS else ""
        raise LocalmtpError(
            f"{parts[0]} has the architecture `{architecture}`{fork}; Gemma 4 is shared here",
            hint="move it to another directory",
        )
    return model
