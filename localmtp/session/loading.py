"""Loading a pair in a way that fits this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from localmtp.engine.device_options import Switch
from localmtp.engine.drafters.head import HeadDrafter
from localmtp.engine.llama.offload import used_devices
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.threads import Threads
from localmtp.errors import LocalmtpError
from localmtp.hardware import cpu
from localmtp.limits import BATCH_ROWS, MAX_AUTO_DRAFT, MAX_IMAGE_TOKENS, most_image_tokens
from localmtp.models import ModelFiles
from localmtp.models.gguf_header import read_header
from localmtp.models.load_check import LoadCheck, Vocabularies
from localmtp.models.memory.available import choose_placement, memory_by_part, projector_fits_gpu
from localmtp.models.memory.shape import is_multiaxial
from localmtp.models.projector_check import check_projector
from localmtp.models.store.local import tensor_names
from localmtp.session.bandwidth import weight_reads
from localmtp.session.pacing_store import pacing_store_for


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Report on how a pair was loaded."""

    placement: str = ""
    """One line that says what was chosen and why; empty if there was nothing to choose."""
    device: str = ""
    """Human-readable name of what computes; empty if unknown."""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Predicted bytes of the target, the drafter, the KV cache and the buffers."""


def load_pair(
    files: ModelFiles, options: LoadOptions, *, trusted: bool = False
) -> tuple[Pair, LoadReport]:
    """Loads a pair that fits, and that libllama does not abort on.

    Memory is checked before loading: libllama allocates memory that is not free, and the system
    then swaps or kills the process.

    Args:
        files: the pair.
        options: fields that are None are chosen.
        trusted: whether the files were written by this program, and need no check.

    Raises:
        LocalmtpError: it does not fit (the hint names what does), libllama would abort, or see
            `Pair.load`.
    """
    check = None if trusted else LoadCheck(files)
    store = pacing_store_for(files, options)
    options = _with_passes_for_images(options, files.target)
    without_effect = _without_gpu(options), _without_experts(files.target, options)
    placement = choose_placement(files, options)
    if placement:
        options = placement.options
    reads = weight_reads(files, options.gpu_layers, options.devices)
    threads = Threads(options.threads or cpu.cores(), None if options.threads else cpu.usage)
    vocabularies = check.vocabularies() if check else Vocabularies()
    pair = Pair.load(
        files.target,
        files.drafter,
        options,
        threads,
        no_drafter=files.why_no_drafter,
        lookup=files.lookup,
        target_vocabulary=vocabularies.target,
        drafter_vocabulary=vocabularies.drafter,
        device_kinds=store.load_device_kinds(),
    )
    pair.reads = reads
    if pair.device_sampling and pair.device_sampling.measured:
        store.save_device_kinds(pair.device_sampling.kinds)
    if not cpu.is_idle():
        threads.settle()
    _prepare_media(pair, files, options, vocabularies)
    return pair, LoadReport(
        placement="; ".join(
            filter(
                None,
                (
                    placement.summary if placement else "",
                    *without_effect,
                    _draft_limit(pair),
                    _unmatched(files.target, options),
                    _without_device_sampling(pair, options),
                ),
            )
        ),
        device=_device(options, threads.most),
        memory=memory_by_part(files, replace(options, context=pair.target.n_ctx)),
    )


def _draft_limit(pair: Pair) -> str:
    """Says that drafts are short, and why; empty if they are not."""
    target = pair.target
    if isinstance(pair.drafter, HeadDrafter) and pair.drafter.max_draft < MAX_AUTO_DRAFT:
        return f"drafts of at most {pair.drafter.max_draft} tokens, one from each MTP head"
    if pair.drafter is None or not target.cache.recurrent or target.max_draft >= MAX_AUTO_DRAFT:
        return ""
    return f"drafts of at most {target.max_draft} tokens, each with a recurrent state"


def _without_gpu(options: LoadOptions) -> str:
    """Says that `--gpu-layers` was given without a GPU; empty otherwise."""
    if not options.gpu_layers or used_devices(options.gpu_layers, options.devices):
        return ""
    return "--gpu-layers has no effect: no GPU is in use, see `localmtp doctor`"


def _without_experts(target: Path, options: LoadOptions) -> str:
    """Says that experts were placed of a model without any; empty otherwise."""
    if not options.devices.cpu_moe or any("_exps." in name for name in tensor_names(target)):
        return ""
    return "--cpu-moe and --n-cpu-moe have no effect: the model has no experts"


def _without_device_sampling(pair: Pair, options: LoadOptions) -> str:
    """Says that `--device-sampling on` has no effect, and why; empty otherwise."""
    if options.devices.sampling is not Switch.ON or pair.device_sampling:
        return ""
    return "--device-sampling has no effect: drafts of several MTP heads are chosen on the host"


def _unmatched(target: Path, options: LoadOptions) -> str:
    """Names the patterns of `--override-tensor` that match no tensor; empty if all do."""
    patterns = [pattern for pattern, _ in options.devices.overrides]
    if not patterns:
        return ""
    names = tensor_names(target)
    idle = [f"`{each}`" for each in patterns if not any(re.search(each, name) for name in names)]
    return f"--override-tensor: no tensor matches {', '.join(idle)}" if idle else ""


def _prepare_media(
    pair: Pair, files: ModelFiles, options: LoadOptions, vocabularies: Vocabularies
) -> None:
    """Lets the pair use its projector, which is checked and loaded at the first image or sound."""
    projector = files.projector
    if projector is None:
        pair.no_media = files.why_no_projector
        return
    most = most_image_tokens(options.image_tokens, multiaxial=pair.target.model.multiaxial)
    pair.use_projector(
        projector,
        image_tokens=options.image_tokens,
        use_gpu=projector_fits_gpu(
            projector, most, used_devices(options.gpu_layers, options.devices)
        ),
        check=lambda tokens: check_projector(
            projector, files.target, image_tokens=tokens, vocabulary=vocabularies.target
        ),
    )


def _with_passes_for_images(options: LoadOptions, target: Path) -> LoadOptions:
    """Enlarges the batch for large images: all rows of one may have to be in one pass.

    Not with positions on several axes: rows of those do not attend to later ones.

    Raises:
        LocalmtpError: the batch was chosen, and is too small, or the target reads no such images.
    """
    tokens = options.image_tokens or 0
    small = tokens <= min(options.batch or BATCH_ROWS, MAX_IMAGE_TOKENS)
    if small or is_multiaxial(read_header(target, settings_only=True)):
        return options
    if tokens > MAX_IMAGE_TOKENS:
        raise LocalmtpError(
            f"{target.name} reads images of at most {MAX_IMAGE_TOKENS} tokens",
            hint=f"pass `--image-tokens {MAX_IMAGE_TOKENS}` or less",
        )
    if options.batch:
        raise LocalmtpError(
            f"images of {tokens} tokens do not fit passes of {options.batch}",
            hint=f"allow larger passes: `--batch {tokens}`, or leave it out",
        )
    return replace(options, batch=tokens)


def _device(options: LoadOptions, threads: int) -> str:
    """Names what computes."""
    used = used_devices(options.gpu_layers, options.devices)
    gpus = ", ".join(device.summary for device in used)
    return gpus or f"CPU, {threads} {'thread' if threads == 1 else 'threads'}"
