"""A pair of the hub as far as it is on this machine."""

from __future__ import annotations

from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.models.cache import cached_files
from localmtp.models.choice import drafter_names, n_parts, parts_of, pick_target, quant_label
from localmtp.models.gguf_header import read_header
from localmtp.models.pairing import check_pair
from localmtp.models.wanted import Wanted


def target_on_disk(wanted: Wanted) -> Path | None:
    """The target in the hub's cache; None unless all its parts are there."""
    files = dict(cached_files(wanted.target.repo))
    name = pick_target(list(files), wanted.target.file, wanted.label)
    if name is None or len(parts_of(files, name)) < n_parts(name):
        return None
    return files[name]


def drafter_on_disk(wanted: Wanted, target: Path) -> Path | None:
    """The drafter for a target in the hub's cache; None when none is there that fits."""
    source = wanted.drafter
    files = dict(cached_files(source.repo if source else wanted.target.repo))
    header = read_header(target, settings_only=True)
    for name in drafter_names(files, source.file if source else "", quant_label(target.name)):
        try:
            offered = read_header(files[name], settings_only=True)
            check_pair(header, offered, target.name, name)
        except LocalmtpError:
            continue
        return files[name]
    return None
