"""Checks of files before libllama loads them into this process.

libllama ends its process when an assertion fails, and a damaged or hostile file can make it fail
in many ways. A file that has not been loaded before is checked against what is known of them
(`gguf_settings`), then loaded by a trial process. The result is remembered, by size, time and the
first bytes of the file, so that a known file starts without delay. The embedded pair is trusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from importlib.metadata import version
from pathlib import Path

from localmtp.atomic import atomic_write_text
from localmtp.engine.compatibility import DRAFTER
from localmtp.engine.llama.vocabulary_file import VocabularyFile
from localmtp.errors import LocalmtpError
from localmtp.models.embedded import embedded_files
from localmtp.models.files import ModelFiles
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.gguf_settings import check_lengths, check_settings
from localmtp.models.memory.available import parts_on_disk
from localmtp.models.vocabulary import (
    check_same_tokens,
    check_special_tokens,
    repeated_tokens,
    undeclared_markers,
    write_vocabulary,
)
from localmtp.paths import load_checks

_VERSION = 2
"""Version of the checks; results of other versions are ignored."""

_MAX_VOCABULARIES = 12
"""Corrected vocabularies that stay on disk: up to 15 MB each."""

_ENCODERS = frozenset({"v", "a", "mm"})
"""First parts of the names of tensors that encode images and sound."""

_SHA256 = re.compile("[0-9a-f]{64}")

_HEAD = 1 << 20
"""Bytes of a file that identify it, along with its size and time."""


@dataclass(frozen=True, slots=True)
class Vocabularies:
    """Corrected vocabularies of a pair; None for one that is loaded unchanged."""

    target: VocabularyFile | None = None
    drafter: VocabularyFile | None = None


class LoadCheck:
    """The check of a pair.

    Args:
        files: the pair.

    Raises:
        LocalmtpError: libllama would abort, or hang, on one of the files.
    """

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self._trusted = _is_embedded(files)
        if self._trusted:
            return
        self._record = record_of(*_files_on_disk(files))
        self._known = _read(self._record)
        self._draft_model = False
        if self._known is None:
            target = _checked_header(files.target)
            if files.drafter:
                drafter = _checked_header(files.drafter)
                check_lengths(target, drafter, str(files.drafter))
                self._draft_model = files.drafter_file is not None and _runs_alone(drafter)
                if self._draft_model:
                    check_same_tokens(files.target, files.drafter)

    def vocabularies(self) -> Vocabularies:
        """Tries to load files that are not known, and returns the vocabularies to load.

        Raises:
            LocalmtpError: the trial process could not load them, or exceeded its time limit.
        """
        try:
            return self._vocabularies()
        except LocalmtpError:
            hint = f"`localmtp pull {self._files.name} --verify` downloads it again"
            require_intact(_files_on_disk(self._files), hint)
            raise

    def _vocabularies(self) -> Vocabularies:
        if self._trusted:
            return Vocabularies()
        if self._known is not None:
            return self._known
        drafter = self._files.drafter_file
        found = Vocabularies(
            _corrected(self._files.target, self._record.with_suffix(".target.gguf")),
            _corrected(drafter, self._record.with_suffix(".drafter.gguf")) if drafter else None,
        )
        _try(self._files, found, draft_model=self._draft_model)
        with suppress(OSError, LocalmtpError):
            self._record.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(self._record, json.dumps(_dumped(found)), durable=False)
            _prune(self._record.parent)
        return found


def _prune(folder: Path) -> None:
    """Removes the oldest corrected vocabularies and their records; they are written again."""
    vocabularies = sorted(folder.glob("*.gguf"), key=lambda path: path.stat().st_mtime)
    for path in vocabularies[:-_MAX_VOCABULARIES]:
        path.with_name(path.name.partition(".")[0] + ".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _is_embedded(files: ModelFiles) -> bool:
    own = embedded_files()
    return files.target == own.target and files.drafter in (None, own.drafter)


def record_of(*files: Path) -> Path:
    """Returns the path of the record about a check of files, by what identifies them.

    Raises:
        LocalmtpError: one cannot be read.
    """
    digest = sha256(f"{_VERSION} {version('llama-cpp-python')}".encode())
    for path in files:
        try:
            status = path.stat()
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError as error:
            raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
        digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
        digest.update(sha256(head).digest())
    return load_checks() / f"{digest.hexdigest()[:32]}.json"


def _files_on_disk(files: ModelFiles) -> list[Path]:
    return [*parts_on_disk(files.target), *([files.drafter] if files.drafter else ())]


def require_intact(paths: Iterable[Path], hint: str) -> None:
    """Compares the hashes of cached files with those of the hub: their names are the hashes.

    Args:
        paths: of the files; those outside of the cache are not checked.
        hint: for the error.

    Raises:
        LocalmtpError: one differs.
    """
    for path in paths:
        blob = path.resolve()
        if blob.parent.name != "blobs" or not _SHA256.fullmatch(blob.name):
            continue
        with blob.open("rb") as file:
            if file_digest(file, "sha256").hexdigest() != blob.name:
                raise LocalmtpError(
                    f"{path} is damaged: its hash is not that of the hub", hint=hint
                )


def _checked_header(path: Path) -> Header:
    header = read_header(path)
    check_settings(header, str(path), complete=True)
    check_special_tokens(header, str(path))
    _check_tensors(header, path)
    return header


def _check_tensors(header: Header, path: Path) -> None:
    """Refuses a target with its projector in one file, as Ollama's library has.

    Raises:
        LocalmtpError: it is one.
    """
    if any(tensor.name.partition(".")[0] in _ENCODERS for tensor in header.tensors):
        raise LocalmtpError(
            f"{path} holds a model and its projector in one file, as Ollama stores them; "
            "libllama takes two files",
            hint="`localmtp list --all` shows models with their projectors",
        )


def _corrected(path: Path, out: Path) -> VocabularyFile | None:
    """Writes a corrected vocabulary if tokens are repeated or declared of the wrong type."""
    header = read_header(path)
    repeated = repeated_tokens(path, header)
    control = undeclared_markers(path, header)
    if not (repeated or control):
        return None
    write_vocabulary(path, header, repeated, out, control=control)
    return VocabularyFile(out, header.architecture, header.n_vocab, repeated)


def _runs_alone(drafter: Header) -> bool:
    """Returns whether a drafter is a whole model, with a first block."""
    whole = any(tensor.name.startswith("blk.0.") for tensor in drafter.tensors)
    return whole and drafter.architecture != DRAFTER


def _try(files: ModelFiles, vocabularies: Vocabularies, *, draft_model: bool) -> None:
    from localmtp.engine.trial import try_loading

    target = files.target, vocabularies.target
    if files.drafter is None:
        try_loading(target)
        return
    drafter = files.drafter, vocabularies.drafter
    if draft_model:
        try_loading(target)
        try_loading(drafter)
    else:
        try_loading(drafter, target)


def _dumped(vocabularies: Vocabularies) -> Mapping[str, object]:
    return {
        role: found
        and {
            "architecture": found.architecture,
            "size": found.size,
            "repeated": list(found.repeated.items()),
        }
        for role, found in (("target", vocabularies.target), ("drafter", vocabularies.drafter))
    }


def _read(record: Path) -> Vocabularies | None:
    """Returns the result of an earlier check; None if there is none, or its files are gone."""

    def vocabulary(role: str) -> VocabularyFile | None:
        found = saved[role]
        if found is None:
            return None
        path = record.with_suffix(f".{role}.gguf")
        if not path.is_file():
            raise ValueError(path)
        repeated = {int(token): int(same) for token, same in found["repeated"]}
        return VocabularyFile(path, str(found["architecture"]), int(found["size"]), repeated)

    try:
        saved = json.loads(record.read_text("utf-8"))
        return Vocabularies(vocabulary("target"), vocabulary("drafter"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
