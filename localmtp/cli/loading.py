"""Resolves MODEL to files, and loads the pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localmtp.cli import output
from localmtp.cli.download_progress import DownloadProgress

if TYPE_CHECKING:
    from localmtp.cli.options import PairFlags
    from localmtp.engine.pair import LoadOptions, Pair
    from localmtp.models import ModelFiles


def find_model(model: str | None, flags: PairFlags) -> ModelFiles:
    """Find MODEL's files, download what is missing, and print warnings on standard error.

    Args:
        model: as the user wrote it; None for the default model.
        flags: `drafter`, `mmproj` and `offline` apply.

    Raises:
        LocalmtpError: see `localmtp.models.resolve`.
    """
    from localmtp.models import resolve

    with DownloadProgress() as progress:
        files = resolve(
            model,
            drafter=flags.drafter,
            projector=flags.mmproj,
            offline=flags.offline,
            progress=progress,
        )
    for warning in files.warnings:
        output.warning(warning)
    return files


def load_model(model: str, flags: PairFlags, *, parallel: int = 1) -> tuple[ModelFiles, Pair]:
    """Find MODEL, check that it fits, and load it.

    Args:
        model: as the user wrote it.
        flags: how to find and load it.
        parallel: number of sequences that share the context.

    Raises:
        LocalmtpError: see `find_model` and `load_pair`.
    """
    files = find_model(model, flags)
    return files, load_files(files, flags.load_options(parallel=parallel))


def load_files(files: ModelFiles, options: LoadOptions) -> Pair:
    """Load a pair, and print how it was placed if there was a choice.

    Raises:
        LocalmtpError: see `load_pair`.
    """
    from localmtp.session.loading import load_pair

    pair, report = load_pair(files, options)
    if report.placement:
        output.note(report.placement)
    return pair
