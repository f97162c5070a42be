"""Files of a model reference that are in the hub's cache."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from localmtp.models.naming.pairing import DrafterChoice, best_drafter
from localmtp.models.naming.quant import drafter_names, n_parts, parts_of, pick_target, quant_label
from localmtp.models.naming.reference import ModelReference
from localmtp.models.store.cache import cached_files
from localmtp.models.store.local import describe


def target_on_disk(reference: ModelReference) -> Path | None:
    """Returns the target in the hub's cache; None unless all its parts are there."""
    files = dict(cached_files(reference.target.repo))
    name = pick_target(list(files), reference.target.file, reference.label)
    if name is None or len(parts_of(files, name)) < n_parts(name):
        return None
    return files[name]


def drafter_on_disk(reference: ModelReference, target: Path) -> DrafterChoice[Path]:
    """Chooses a drafter for a target among those in the hub's cache."""
    source = reference.drafter
    files = dict(cached_files(source.repo if source else reference.target.repo))
    names = drafter_names(files, source.file if source else "", quant_label(target.name))
    return best_drafter(
        describe(target),
        [(files[name], partial(describe, files[name])) for name in names],
        f"no drafter for {reference.name} is here; `localmtp pull {reference.name}` looks for one",
        target,
    )
