"""A pair of the hub as far as it is on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from localmtp.models.naming.pairing import Found, best_drafter
from localmtp.models.naming.quant import drafter_names, n_parts, parts_of, pick_target, quant_label
from localmtp.models.naming.reference import Wanted
from localmtp.models.store.cache import cached_files
from localmtp.models.store.local import describe


def target_on_disk(wanted: Wanted) -> Path | None:
    """The target in the hub's cache; None unless all its parts are there."""
    files = dict(cached_files(wanted.target.repo))
    name = pick_target(list(files), wanted.target.file, wanted.label)
    if name is None or len(parts_of(files, name)) < n_parts(name):
        return None
    return files[name]


def drafter_on_disk(wanted: Wanted, target: Path) -> Found[Path]:
    """The drafter for a target, if it is in the hub's cache."""
    source = wanted.drafter
    files = dict(cached_files(source.repo if source else wanted.target.repo))
    names = drafter_names(files, source.file if source else "", quant_label(target.name))
    return best_drafter(
        describe(target),
        [(files[name], partial(describe, files[name])) for name in names],
        f"no drafter for {wanted.name} is here; `localmtp pull {wanted.name}` looks for one",
    )
