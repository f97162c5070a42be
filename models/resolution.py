"""Resolving a model's name to files on disk."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.models.embedded import NANO, embedded_files
from localmtp.models.files import LOOKUP, NO_DRAFTER, NO_MEDIA, ModelFiles, without_drafter
from localmtp.models.naming.hub_address import hub_name

if TYPE_CHECKING:
    from localmtp.models.naming.reference import ModelReference
    from localmtp.models.store.download import ProgressCallback


def resolve(
    model: str | None,
    *,
    drafter: str | None = None,
    projector: str | None = None,
    offline: bool = False,
    progress: ProgressCallback | None = None,
) -> ModelFiles:
    """Resolves a model, downloading it if it is not on this machine.

    Args:
        model: `nano`, a registry name, `USER/REPO[:QUANT]` or `PATH.gguf`; None for the default.
        drafter: a path, `none` for no drafter, `lookup` to copy from the context, or None for the
            model's own.
        projector: encoder of images and sound: a path, `none` for none, or None for the model's
            own, which is downloaded with the model, but never alone.
        offline: never download.
        progress: called during downloads.

    Raises:
        LocalmtpError: an unknown name, a missing file, a target and a drafter that do not match,
            or a failed download. A target without projector is none of them: `why_no_projector`
            says why.
    """
    if model is None:
        from localmtp.models.naming.default import default_model

        model = default_model()
    model = hub_name(model)
    if model == NANO:
        return _embedded(drafter, projector)
    from localmtp.models.store.projectors import with_projector

    if not is_on_hub(model):
        from localmtp.models.store.local import resolve_path

        return with_projector(resolve_path(Path(model).expanduser(), drafter), projector)

    from localmtp.models.naming.reference import parse_reference

    reference = parse_reference(model)
    wanted = projector is None
    files = _from_hub(reference, drafter, offline, progress, with_projector=wanted)
    sought = files.projector or files.why_no_projector not in ("", NO_MEDIA)
    if not (wanted and sought):
        files = with_projector(files, projector, reference)
    return replace(files, first_draft_length=reference.first_draft_length)


def is_on_hub(model: str) -> bool:
    """Reports whether a name refers to the hub, not to the embedded pair or a file."""
    model = hub_name(model)
    if model == NANO or _names_a_file(model):
        return False
    from localmtp.models.naming.reference import is_registered

    return is_registered(model) or not _exists(model)


def _names_a_file(model: str) -> bool:
    prefixed = re.match(r"[.~]{0,2}[/\\]|[A-Za-z]:[/\\]", model) is not None
    return "\0" not in model and (prefixed or model.lower().endswith(".gguf"))


def _exists(model: str) -> bool:
    return model != "" and "\0" not in model and Path(model).exists()


def _embedded(drafter: str | None, projector: str | None) -> ModelFiles:
    files = embedded_files()
    if drafter in (NO_DRAFTER, LOOKUP):
        files = without_drafter(NANO, files.target, drafter)
    elif drafter is not None:
        from localmtp.models.store.local import checked_pair

        files = checked_pair(NANO, files.target, Path(drafter).expanduser())
    if projector is None:
        return replace(files, why_no_projector=f"{NANO} reads text only")
    from localmtp.models.store.projectors import with_projector

    return with_projector(files, projector)


def _from_hub(
    reference: ModelReference,
    drafter: str | None,
    offline: bool,
    progress: ProgressCallback | None,
    *,
    with_projector: bool,
) -> ModelFiles:
    from localmtp.models.naming.pairing import DrafterChoice
    from localmtp.models.store.local import checked_pair, model_files
    from localmtp.models.store.on_disk import drafter_on_disk, target_on_disk

    target = target_on_disk(reference)
    if target is None:
        if offline:
            raise LocalmtpError(
                f"{reference.name} is not on this machine",
                hint=f"without --offline: `localmtp pull {reference.name}`",
            )
        files = _pull(reference, drafter is None, with_projector, progress)
        if drafter is None:
            return files
        target = files.target
    if drafter in (NO_DRAFTER, LOOKUP):
        return without_drafter(reference.name, target, drafter)
    if drafter is not None:
        return checked_pair(reference.name, target, Path(drafter).expanduser())
    own = drafter_on_disk(reference, target)
    if own.file is None and reference.drafter is not None and not offline:
        # The registry knows that there is one.
        try:
            return _pull(reference, True, False, progress)
        except LocalmtpError as fault:
            own = DrafterChoice(None, f"its drafter could not be downloaded: {fault.message}")
    return model_files(reference.name, target, own)


def _pull(
    reference: ModelReference,
    with_drafter: bool,
    with_projector: bool,
    progress: ProgressCallback | None,
) -> ModelFiles:
    from localmtp.models.store.pull import plan_pull, pull

    plan = plan_pull(reference, with_drafter=with_drafter, with_projector=with_projector)
    if plan.shortage:
        raise LocalmtpError(
            plan.shortage,
            hint=f"nothing was downloaded; to download it anyway: `localmtp pull {reference.name}`",
        )
    return pull(plan, progress)
