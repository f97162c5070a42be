"""Models on this machine: listing and removing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from localmtp.engine.compatibility import why_no_target
from localmtp.errors import LocalmtpError
from localmtp.models.embedded import NANO, embedded_files
from localmtp.models.gguf_header import Header, read_header
from localmtp.models.memory.estimate import Weights
from localmtp.models.memory.placement import MemoryBudget, fits, largest_context
from localmtp.models.memory.shape import shape_of
from localmtp.models.naming.quant import parts_of, quant_label, target_names
from localmtp.models.naming.reference import ModelReference
from localmtp.models.naming.registry import HubFile, drafter_for, entries, projector_for
from localmtp.models.store.cache import cached_files, cached_repositories
from localmtp.models.store.local import describe
from localmtp.models.store.on_disk import drafter_on_disk
from localmtp.models.store.projectors import projector_on_disk


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A target on this machine, and the drafter to load with it."""

    name: str
    """Name to run it by: `gemma4-e4b:Q4_0`, `USER/REPO:QUANT`."""
    label: str
    """Quantization type."""
    target: tuple[Path, ...]
    """All parts, usually one."""
    drafter: Path | None
    header: Header
    projector: Path | None = None

    @property
    def weights(self) -> int:
        """Size of the target in bytes."""
        return sum(part.stat().st_size for part in self.target)

    @property
    def drafter_weights(self) -> int:
        """Size of the drafter in bytes; 0 without one."""
        own = self.drafter if self.drafter not in self.target else None
        return own.stat().st_size if own else 0

    @property
    def projector_weights(self) -> int:
        """Size of the projector in bytes; 0 without one."""
        return self.projector.stat().st_size if self.projector else 0

    @property
    def sizes(self) -> Weights:
        """Sizes of all files."""
        return Weights(self.weights, self.drafter_weights, projector=self.projector_weights)

    @property
    def last_used(self) -> float:
        """Seconds since the epoch, as precise as the file system records it: often to a day."""
        return self.target[0].stat().st_atime

    def fits(self, budget: MemoryBudget) -> bool:
        """Reports whether a chat of some length fits."""
        return fits(shape_of(self.header), self.sizes, budget)

    def context_within(self, budget: MemoryBudget) -> int:
        """Returns the largest context that fits, in tokens; 0 for none."""
        limit = self.header.number("context_length")
        return largest_context(shape_of(self.header), self.sizes, limit, budget)


def installed_models() -> list[InstalledModel]:
    """Returns every text model in the hub's cache, whichever program downloaded it."""
    return [model for repo in cached_repositories() for model in _in_repository(repo)]


def embedded_model() -> InstalledModel:
    """Returns the pair that ships with localmtp.

    Raises:
        LocalmtpError: its files are missing.
    """
    files = embedded_files()
    header = read_header(files.target, settings_only=True)
    label = quant_label(files.target.name)
    return InstalledModel(NANO, label, (files.target,), files.drafter, header)


def remove(model: InstalledModel, others: Sequence[InstalledModel]) -> int:
    """Deletes the files of a model, except a drafter or projector that another model uses.

    Args:
        model: the model to delete.
        others: all other models on this machine.

    Returns:
        Bytes freed.

    Raises:
        LocalmtpError: a file could not be deleted.
    """
    from huggingface_hub import scan_cache_dir

    doomed = set(model.target)
    needed = {path for other in others for path in (other.drafter, other.projector)}
    doomed |= {path for path in (model.drafter, model.projector) if path and path not in needed}
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


def _in_repository(repo: str) -> Iterator[InstalledModel]:
    files = dict(cached_files(repo))
    for name in target_names(files):
        try:
            header = describe(files[name]).header
        except LocalmtpError:
            continue
        if not why_no_target(header.architecture):
            reference = _reference(repo, name)
            yield InstalledModel(
                reference.name,
                reference.label,
                tuple(files[part] for part in parts_of(files, name)),
                drafter_on_disk(reference, files[name]).file,
                header,
                projector_on_disk(reference, files[name]).file,
            )


def _reference(repo: str, name: str) -> ModelReference:
    """Returns the reference that resolves to a file."""
    source = HubFile(repo, name)
    for entry in entries().values():
        for quant in entry.quants:
            if quant.target == source:
                model = f"{entry.name}:{quant.label}"
                return ModelReference(
                    model, source, quant.label, quant.drafter, projector=entry.projector
                )
    label = quant_label(name)
    model = f"{repo}:{label}" if label else repo
    return ModelReference(model, source, label, drafter_for(repo), projector=projector_for(repo))
