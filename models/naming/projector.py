"""Pairing targets and projectors by what their GGUF headers and names say.

A projector (`mmproj`) holds the encoders of images and sound. libmtmd compares nothing but the
width of its output with the target's, and Gemma 3 has the same widths as Gemma 4: 2560, 3840 and
5376. The types of the encoders tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from localmtp.engine.compatibility import PROJECTOR, TARGET
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header
from localmtp.models.naming.pairing import DescribedFile
from localmtp.models.naming.quant import quant_label

File = TypeVar("File")

IMAGE, AUDIO = "image", "audio"

_SECTIONS = {IMAGE: "vision", AUDIO: "audio"}
"""Kind of media → its section of the settings."""

_ENCODERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    TARGET: {IMAGE: ("gemma4v", "gemma4uv"), AUDIO: ("gemma4a", "gemma4ua")},
    "gemma3": {IMAGE: ("gemma3",), AUDIO: ()},
    "gemma3n": {IMAGE: ("gemma3nv",), AUDIO: ("gemma3na",)},
}
"""Types of encoders by the architecture of their targets. Those of Gemma 4's unified class (12B)
come second. Targets of other architectures take any type but these."""

_TAKEN = {
    name: architecture
    for architecture, types in _ENCODERS.items()
    for names in types.values()
    for name in names
}
"""Type of an encoder → the architecture that it belongs to."""

# Small files first. Q8_0 is the type of ggml-org's files.
_PREFERRED = ("Q8_0", "F16", "BF16", "F32")

_OUTPUTS = ("mm.input_projection.weight", "mm.a.input_projection.weight")
"""Matrices whose result is the rows for the target."""

_WITHOUT = "`--no-media` runs without one"


def names_a_projector(path: str) -> bool:
    """Reports whether a file has a name that projectors are published under.

    Seen on the hub: `mmproj-NAME-TYPE.gguf`, `mmproj-TYPE.gguf`, `NAME-mmproj.gguf`.
    """
    name = path.replace("\\", "/").rpartition("/")[2].lower()
    return name.endswith(".gguf") and "mmproj" in name


def projector_names(names: Iterable[str], pattern: str = "") -> list[str]:
    """Returns the files that may be projectors, likely ones first.

    A match of the registry's pattern comes first, then files in the root folder, then small types.
    """

    def unlikelihood(name: str) -> tuple[bool, bool, int, str]:
        matches = pattern != "" and fnmatchcase(name, pattern)
        return not matches, "/" in name, type_rank(name), name

    return sorted(filter(names_a_projector, names), key=unlikelihood)


def type_rank(name: str) -> int:
    """Returns the rank of the type in a file's name, 0 for the first choice."""
    label = quant_label(name)
    return _PREFERRED.index(label) if label in _PREFERRED else len(_PREFERRED)


def media_of(projector: Header) -> tuple[str, ...]:
    """Returns the kinds of media that a projector encodes: `image`, `audio`."""
    return tuple(kind for kind in _SECTIONS if _encoder(projector, kind))


def require_projector(target: DescribedFile, projector: DescribedFile) -> None:
    """Checks that a projector encodes media for a target.

    Raises:
        LocalmtpError: it is no projector, or of another model.
    """
    problem = _mismatch(target, projector)
    if problem:
        raise LocalmtpError(problem, hint=_WITHOUT)


def projector_agreement(target: DescribedFile, projector: DescribedFile) -> str:
    """Returns the reasons why a projector belongs to a target, human-readable."""
    types = " and ".join(_encoder(projector.header, kind) for kind in media_of(projector.header))
    return f"{types} for embedding length {target.header.number('embedding_length')}"


@dataclass(frozen=True, slots=True)
class ProjectorChoice(Generic[File]):
    """The projector chosen for a target, or the reason why there is none."""

    file: File | None
    why_not: str = ""
    """Empty if there is one."""
    why: str = ""
    """Reasons why it belongs to the target; see `projector_agreement`."""
    media: tuple[str, ...] = ()
    """See `media_of`."""


def best_projector(
    target: DescribedFile,
    candidates: Iterable[tuple[File, Callable[[], DescribedFile]]],
    otherwise: str,
) -> ProjectorChoice[File]:
    """Chooses the first candidate that matches the target.

    Args:
        target: the target.
        candidates: files in order of preference, each with a function that reads its header.
        otherwise: reason to give if there are no candidates.
    """
    why_not = otherwise
    for file, describe in candidates:
        try:
            projector = describe()
            require_projector(target, projector)
        except LocalmtpError as fault:
            why_not = fault.message
            continue
        return chosen(file, target, projector)
    return ProjectorChoice(None, why_not)


def chosen(file: File, target: DescribedFile, projector: DescribedFile) -> ProjectorChoice[File]:
    """Returns the choice of a projector that was checked."""
    why = projector_agreement(target, projector)
    return ProjectorChoice(file, "", why, media_of(projector.header))


def _mismatch(target: DescribedFile, projector: DescribedFile) -> str:
    header, name = projector.header, projector.name
    if header.architecture != PROJECTOR:
        return (
            f"{name} is not a projector: its architecture is `{header.architecture or 'unknown'}`"
        )
    kinds = media_of(header)
    if not kinds:
        return f"{name} has neither an image encoder nor an audio encoder"
    encoders = {kind: _encoder(header, kind) for kind in kinds}
    if problem := _wrong_types(target, name, encoders):
        return problem
    width = target.header.number("embedding_length")
    made_for = next((found for found in _widths(header, kinds) if found != width), width)
    # Only the projectors of known architectures always have the setting.
    if made_for != width and (made_for or target.header.architecture in _ENCODERS):
        return (
            f"{name} was made for a target of embedding length {made_for}; "
            f"{target.name} has {width}"
        )
    return ""


def _wrong_types(target: DescribedFile, name: str, encoders: Mapping[str, str]) -> str:
    """Says which encoder is of another architecture's type; empty if none is."""
    architecture = target.header.architecture
    known = _ENCODERS.get(architecture)
    for kind, encoder in encoders.items():
        fits = encoder in known[kind] if known else encoder not in _TAKEN
        if not fits:
            return (
                f"{name} has an encoder of type `{encoder}`, which is not one of "
                f"`{architecture}`, the architecture of {target.name}"
            )
    if known and len({known[kind].index(encoder) for kind, encoder in encoders.items()}) > 1:
        types = " and ".join(f"`{encoder}`" for encoder in encoders.values())
        return f"{name} mixes the encoders of two kinds of model: {types}"
    return ""


def _widths(projector: Header, kinds: Iterable[str]) -> Iterator[int]:
    """Yields the widths of the output: of the settings, and of the tensors if they were read."""
    for kind in kinds:
        yield projector.number(f"{_SECTIONS[kind]}.projection_dim")
    for tensor in projector.tensors:
        if tensor.name in _OUTPUTS and len(tensor.shape) == 2:
            yield tensor.shape[1]


def _encoder(projector: Header, kind: str) -> str:
    """Returns the type of an encoder as libmtmd reads it; empty if there is none."""
    section = _SECTIONS[kind]
    if projector.setting(f"has_{section}_encoder") is not True:
        return ""
    found = projector.setting("projector_type") or projector.setting(f"{section}.projector_type")
    return found[:40] if isinstance(found, str) and found else "unknown"
