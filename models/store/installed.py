"""The models on this machine, and taking them off it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from localmtp.engine.compatibility import TARGET
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import Room, fits, largest_context
from localmtp.models.memory.shape import shape_of
from localmtp.models.naming.quant import parts_of, quant_label, target_names
from localmtp.models.naming.reference import Wanted
from localmtp.models.naming.registry import Source, drafter_for, entries
from localmtp.models.resolution import NANO, resolve
from localmtp.models.store.cache import cached_files, cached_repositories
from localmtp.models.store.on_disk import drafter_on_disk


@dataclass(frozen=True, slots=True)
class Installed:
    """A target on this machine, with the drafter that it would be paired with."""

    name: str
    """By which it is run: `gemma4-e4b:Q4_0`, `USER/REPO:QUANT`."""
    label: str
    """The quantization."""
    target: tuple[Path, ...]
    """Its parts, as a rule one."""
    drafter: Path | None
    header: Header

    @property
    def weights(self) -> int:
        """Bytes of the target."""
        return sum(part.stat().st_size for part in self.target)

    @property
    def drafter_weights(self) -> int:
        """Bytes of the drafter; 0 without one."""
        return self.drafter.stat().st_size if self.drafter else 0

    @property
    def last_used(self) -> float:
        """Seconds since the epoch; as exact as the file system keeps it, often to a day."""
        return self.target[0].stat().st_atime

    def fits(self, room: Room) -> bool:
        """Whether a chat of some length fits."""
        return fits(shape_of(self.header), Weights(self.weights, self.drafter_weights), room)

    def context_within(self, room: Room) -> int:
        """The largest context that fits; 0 when none does."""
        weights = Weights(self.weights, self.drafter_weights)
        limit = self.header.number("context_length")
        return largest_context(shape_of(self.header), weights, limit, room)


def installed() -> list[Installed]:
    """Every Gemma 4 target in the hub's cache, whoever downloaded it."""
    return [model for repo in cached_repositories() for model in _in_repository(repo)]


def embedded() -> Installed:
    """The pair that ships with localmtp.

    Raises:
        LocalmtpError: its files are missing.
    """
    files = resolve(NANO)
    header = read_header(files.target, settings_only=True)
    label = quant_label(files.target.name)
    return Installed(NANO, label, (files.target,), files.drafter, header)


def remove(model: Installed, others: Sequence[Installed]) -> int:
    """Delete a model's files, except a drafter that another model is paired with.

    Args:
        model: what to delete.
        others: all other models on this machine.

    Returns:
        The bytes that were freed.

    Raises:
        LocalmtpError: a file could not be deleted.
    """
    from huggingface_hub import scan_cache_dir

    doomed = set(model.target)
    if model.drafter and all(model.drafter != other.drafter for other in others):
        doomed.add(model.drafter)
    cache = scan_cache_dir()
    files = [
        file
        for repo in cache.repos
        for revision in repo.revisions
        for file in revision.files
        if file.file_path in doomed
    ]
    strategy = cache.delete_files(*files)
    strategy.execute()
    left = next((path for path in doomed if path.exists()), None)
    if left is not None:
        raise LocalmtpError(f"cannot delete {left}", hint="check who owns the cache")
    return strategy.expected_freed_size


def _in_repository(repo: str) -> Iterator[Installed]:
    files = dict(cached_files(repo))
    for name in target_names(files):
        try:
            header = read_header(files[name], settings_only=True)
        except LocalmtpError:
            continue
        if header.architecture == TARGET:
            wanted = _wanted(repo, name)
            yield Installed(
                wanted.name,
                wanted.label,
                tuple(files[part] for part in parts_of(files, name)),
                drafter_on_disk(wanted, files[name]).file,
                header,
            )


def _wanted(repo: str, name: str) -> Wanted:
    """The name under which a file is run."""
    source = Source(repo, name)
    for entry in entries().values():
        for quant in entry.quants:
            if quant.target == source:
                return Wanted(f"{entry.name}:{quant.label}", source, quant.label, quant.drafter)
    label = quant_label(name)
    return Wanted(f"{repo}:{label}" if label else repo, source, label, drafter_for(repo))
