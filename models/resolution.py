"""From the name that a user writes to files on disk."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_DRAFTER, ModelFiles

if TYPE_CHECKING:
    from localmtp.models.naming.reference import Wanted
    from localmtp.models.store.download import Report

NANO = "nano"
_NANO_FOLDER = Path(__file__).with_name("nano")


def resolve(
    model: str | None,
    *,
    drafter: str | None = None,
    offline: bool = False,
    progress: Report | None = None,
) -> ModelFiles:
    """Find the files of a model; what is on this machine is used without asking the network.

    Args:
        model: `nano`, a registry name, `USER/REPO[:QUANT]` or `PATH.gguf`; None for the default.
        drafter: a path, `none` to run without one, or None for the model's own.
        offline: never download.
        progress: told about downloads.

    Raises:
        LocalmtpError: an unknown name, a missing file, files that do not belong together, or a
            download that failed.
    """
    if model is None:
        from localmtp.models.naming.default import default_model

        model = default_model()
    if model == NANO:
        return _embedded(drafter)
    if not is_on_hub(model):
        from localmtp.models.store.local import resolve_path

        return resolve_path(Path(model).expanduser(), drafter)

    from localmtp.models.naming.reference import wanted

    named = wanted(model)
    files = _from_hub(named, drafter, offline, progress)
    return replace(files, first_draft_length=named.first_draft_length)


def is_on_hub(model: str) -> bool:
    """Whether a name is one of the hub, not of the embedded pair or of a file."""
    if model == NANO or _names_a_file(model):
        return False
    from localmtp.models.naming.reference import is_registered

    return is_registered(model) or not _exists(model)


def _names_a_file(model: str) -> bool:
    prefixed = re.match(r"[.~]{0,2}[/\\]|[A-Za-z]:[/\\]", model) is not None
    return "\0" not in model and (prefixed or model.lower().endswith(".gguf"))


def _exists(model: str) -> bool:
    return model != "" and "\0" not in model and Path(model).exists()


def _embedded(drafter: str | None) -> ModelFiles:
    target = _NANO_FOLDER / "nano-Q8_0.gguf"
    if drafter is None:
        own = _NANO_FOLDER / "mtp-nano-Q8_0.gguf"
        return ModelFiles(NANO, target, own, NANO, "", "trained for this target")
    if drafter == NO_DRAFTER:
        return ModelFiles(NANO, target, None, "", f"--drafter {NO_DRAFTER}")
    from localmtp.models.store.local import pair

    return pair(NANO, target, Path(drafter).expanduser())


def _from_hub(
    model: Wanted, drafter: str | None, offline: bool, progress: Report | None
) -> ModelFiles:
    from localmtp.models.naming.pairing import Found
    from localmtp.models.store.local import pair, paired
    from localmtp.models.store.on_disk import drafter_on_disk, target_on_disk

    target = target_on_disk(model)
    if target is None:
        if offline:
            raise LocalmtpError(
                f"{model.name} is not on this machine",
                hint=f"without --offline: `localmtp pull {model.name}`",
            )
        files = _pull(model, drafter is None, progress)
        if drafter is None:
            return files
        target = files.target
    if drafter == NO_DRAFTER:
        return ModelFiles(model.name, target, None, "", f"--drafter {NO_DRAFTER}")
    if drafter is not None:
        return pair(model.name, target, Path(drafter).expanduser())
    own = drafter_on_disk(model, target)
    if own.file is None and model.drafter is not None and not offline:
        # It is known to exist.
        try:
            return _pull(model, True, progress)
        except LocalmtpError as fault:
            own = Found(None, f"its drafter could not be downloaded: {fault.message}")
    return paired(model.name, target, own)


def _pull(model: Wanted, with_drafter: bool, progress: Report | None) -> ModelFiles:
    from localmtp.models.store.pull import carry_out, plan

    found = plan(model, with_drafter=with_drafter)
    if found.shortage:
        raise LocalmtpError(
            found.shortage,
            hint=f"nothing was downloaded; `localmtp pull {model.name}` does it all the same",
        )
    return carry_out(found, progress)
