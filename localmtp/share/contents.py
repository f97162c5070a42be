"""Contents of a directory of converted files, read from their headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from localmtp.convert.quality.report import SUFFIX, Report, read_report
from localmtp.engine.compatibility import DRAFTER, FORKS, HEADS, PROJECTOR, TARGET
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header, Value, read_header
from localmtp.models.naming.pairing import DescribedFile
from localmtp.models.naming.projector import media_of, require_projector
from localmtp.models.naming.quant import quant_label

CARD = "README.md"

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_IMATRIX = "imatrix"

_FAMILIES = {TARGET: "Gemma 4", DRAFTER: "Gemma 4", **dict.fromkeys(HEADS, "Qwen 3.5")}
"""Architecture → name of the models that `localmtp convert` writes."""


@dataclass(frozen=True, slots=True)
class SharedModel:
    """A model in one file or several parts."""

    parts: Sequence[Path]
    header: Header
    """Header of the first part, with the tensors of all."""
    size: int
    """Bytes of all parts."""
    bits_per_weight: float

    @property
    def name(self) -> str:
        """File name; of a model in parts, of the first."""
        return self.parts[0].name

    @property
    def quant(self) -> str:
        """Quantization type in the file name; empty if there is none."""
        return quant_label(_PART.sub(r"\1.gguf", self.name))

    @property
    def kind(self) -> str:
        """`target`, `drafter`, `projector` or `imatrix`."""
        if self.header.values.get("general.type") == _IMATRIX:
            return _IMATRIX
        if self.header.architecture in HEADS:
            return "target" if DescribedFile(self.name, self.header).traits.trunk else "drafter"
        kinds = {TARGET: "target", DRAFTER: "drafter", PROJECTOR: "projector"}
        return kinds.get(self.header.architecture, "")

    @property
    def family(self) -> str:
        """Name of the family, such as `Gemma 4`; empty for a projector or an unknown one."""
        return _FAMILIES.get(self.header.architecture, "")

    @property
    def has_head(self) -> bool:
        """Whether an MTP head is in the file of a target."""
        traits = DescribedFile(self.name, self.header).traits
        return self.kind == "target" and traits.has_head

    def general(self, key: str) -> Value | None:
        """Returns the value of `general.KEY`; None if it is missing."""
        return self.header.values.get(f"general.{key}")


@dataclass(frozen=True, slots=True)
class Contents:
    """Models, reports and card to upload."""

    models: Sequence[SharedModel]
    """Targets first, larger ones first."""
    reports: Sequence[Report]
    card: str
    """Handwritten model card; empty without one."""

    @property
    def targets(self) -> list[SharedModel]:
        """All targets."""
        return [model for model in self.models if model.kind == "target"]

    @property
    def projectors(self) -> list[SharedModel]:
        """All projectors."""
        return [model for model in self.models if model.kind == "projector"]

    @property
    def media(self) -> tuple[str, ...]:
        """Kinds of media that the projectors encode: `image`, `audio`."""
        return tuple(
            dict.fromkeys(kind for model in self.projectors for kind in media_of(model.header))
        )

    @property
    def drafters(self) -> list[SharedModel]:
        """All drafters."""
        return [model for model in self.models if model.kind == "drafter"]

    @property
    def has_head(self) -> bool:
        """Whether a target has its MTP head in the file."""
        return any(model.has_head for model in self.targets)

    @property
    def family(self) -> str:
        """Name of the models' family."""
        return next((model.family for model in self.models if model.family), "")

    @property
    def files(self) -> list[Path]:
        """All GGUF files."""
        return [part for model in self.models for part in model.parts]


def read_contents(directory: Path) -> Contents:
    """Reads the headers of GGUF files, and the reports, in a directory.

    Raises:
        LocalmtpError: it is missing, holds no model, or holds an incomplete one, or one of an
            architecture that `convert` does not write.
    """
    if not directory.is_dir():
        raise LocalmtpError(
            f"{directory} is not a directory",
            hint="pass the `--out` directory of `localmtp convert`",
        )
    models = [_model(parts) for parts in _whole_models(sorted(directory.glob("*.gguf")))]
    models.sort(key=lambda m: (m.kind != "target", m.kind, -m.size))
    if not any(model.kind in ("target", "drafter") for model in models):
        raise LocalmtpError(
            f"{directory} holds no GGUF file of a model",
            hint="create some: `localmtp convert SOURCE --out DIR`",
        )
    _require_matching_projectors(models)
    reports = [read_report(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]
    return Contents(models, reports, _written_card(directory / CARD))


def _require_matching_projectors(models: Sequence[SharedModel]) -> None:
    """Refuses a projector that belongs to none of the targets next to it."""
    targets = [_described(model) for model in models if model.kind == "target"]
    for model in models:
        if model.kind != "projector":
            continue
        faults = []
        for target in targets:
            try:
                require_projector(target, _described(model))
            except LocalmtpError as fault:
                faults.append(fault)
        if targets and len(faults) == len(targets):
            raise LocalmtpError(faults[0].message, hint="move it to another directory")


def _described(model: SharedModel) -> DescribedFile:
    return DescribedFile(model.name, model.header)


def _written_card(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise LocalmtpError(f"cannot read {path}: {error}") from error


def _whole_models(files: Sequence[Path]) -> list[list[Path]]:
    """Groups files by model."""
    models: dict[str, list[Path]] = {}
    for file in files:
        part = _PART.fullmatch(file.name)
        models.setdefault(f"{part[1]} of {part[3]}" if part else file.name, []).append(file)
    for parts in models.values():
        part = _PART.fullmatch(parts[0].name)
        if part and len(parts) != int(part[3]):
            raise LocalmtpError(
                f"{parts[0]} is one of {int(part[3])} parts; {len(parts)} are here",
                hint="put the others next to it, or move it away",
            )
    return list(models.values())


def _model(parts: Sequence[Path]) -> SharedModel:
    headers = [read_header(part) for part in parts]
    tensors = [tensor for header in headers for tensor in header.tensors]
    weights = sum(prod(tensor.shape) for tensor in tensors)
    bits = 8 * sum(tensor.nbytes for tensor in tensors) / weights if weights else 0.0
    size = sum(part.stat().st_size for part in parts)
    whole = replace(headers[0], tensors=tuple(tensors))
    model = SharedModel(parts, whole, size, bits)
    if not model.kind:
        architecture = headers[0].architecture or "unknown"
        fork = " of a llama.cpp fork" if architecture in FORKS else ""
        raise LocalmtpError(
            f"{parts[0]} has the architecture `{architecture}`{fork}; "
            f"only {' and '.join(dict.fromkeys(_FAMILIES.values()))} can be shared",
            hint="move it to another directory",
        )
    return model
