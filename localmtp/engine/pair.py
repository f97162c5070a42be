"""A loaded target with its drafter: checked against each other, freed in the right order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from localmtp.engine.compatibility import (
    FIRST_TENSOR,
    FORKS,
    HEADS,
    DrafterKind,
    Traits,
    check_target,
    drafter_kind,
    fork_format,
)
from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.device_sampling import DeviceSampling, open_device_sampling
from localmtp.engine.decoding.drafter import Drafter, MTPDrafter
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.device_options import SplitMode, drafter_offloaded
from localmtp.engine.drafters.head import HeadDrafter
from localmtp.engine.drafters.model_drafter import ModelDrafter
from localmtp.engine.drafters.prompt_lookup import NoDraftSteps, PromptLookupDrafter
from localmtp.engine.kv_type import KVType
from localmtp.engine.llama import ALL_LAYERS, Model, Offload, holds_tensor
from localmtp.engine.llama.vocabulary_file import VocabularyFile
from localmtp.engine.load_options import LoadOptions
from localmtp.engine.media import MediaEncoder
from localmtp.engine.pacing import PacingState
from localmtp.engine.threads import Threads
from localmtp.engine.weight_reads import WeightReads
from localmtp.errors import LocalmtpError
from localmtp.limits import BATCH_ROWS, DEFAULT_CONTEXT, most_image_tokens

if TYPE_CHECKING:
    from localmtp.engine.llama.mtmd import Tower

__all__ = ["LoadOptions", "Pair"]

_DRAFTERS: Mapping[DrafterKind, Callable[[Model, TargetContext], Drafter]] = {
    DrafterKind.ASSISTANT: MTPDrafter,
    DrafterKind.HEAD: HeadDrafter,
    DrafterKind.MODEL: ModelDrafter,
}
"""Opens a drafter of each kind on its model and its target."""


class Pair:
    """A loaded target with its drafter, or with none.

    Use as a context manager, or call `close`.

    Args:
        target: context of the target.
        sequences: of the context, by number.
        drafter: None for no drafting.
        resources: closed with the pair.
        no_drafter: why there is no drafter.
        load_s: seconds that loading took.
        device: chooses tokens on the device; None: the host chooses all.
    """

    def __init__(
        self,
        target: TargetContext,
        sequences: Sequence[TargetSequence],
        drafter: Drafter | None,
        resources: ExitStack,
        *,
        no_drafter: str = "",
        load_s: float = 0.0,
        device: DeviceSampling | None = None,
    ) -> None:
        self.target = target
        self.device_sampling = device
        self.drafter = drafter
        self.sequences = sequences
        self.no_drafter = no_drafter
        self.load_s = load_s
        self.reads: WeightReads | None = None
        """Weights that passes read; None if the bandwidth of their memory is unknown."""
        self.media: MediaEncoder | None = None
        """Encodes the images and sounds of prompts; None without a projector."""
        self.no_media = ""
        """Reason why there is no projector; empty with one, or if unknown."""
        self._resources = resources

    @classmethod
    def load(
        cls,
        target: Path,
        drafter: Path | None,
        options: LoadOptions,
        threads: Threads | None = None,
        *,
        no_drafter: str = "no drafter",
        lookup: bool = False,
        target_vocabulary: VocabularyFile | None = None,
        drafter_vocabulary: VocabularyFile | None = None,
        device_kinds: Sequence[str] | None = None,
    ) -> Pair:
        """Loads GGUF files.

        Args:
            target: a model.
            drafter: its drafter, see `DrafterKind`; the target itself for a head in its file; None
                for no drafting.
            options: context, threads, offload.
            threads: number of compute threads; None for that of `options`, else all cores.
            no_drafter: why `drafter` is None.
            lookup: copy drafts from the context if `drafter` is None.
            target_vocabulary: loaded instead of that of the target's file.
            drafter_vocabulary: loaded instead of that of the drafter's file.
            device_kinds: kinds of answers that the device chooses, as measured earlier; None to
                measure.

        Raises:
            LocalmtpError: a file is missing, damaged or of another kind, the drafter does not fit
                the target, or there is too little memory.
        """
        began = perf_counter()
        threads = threads or Threads(options.threads or os.cpu_count() or 1)
        with ExitStack() as resources:
            in_file = drafter == target
            model = resources.enter_context(
                _load_target(target, options, target_vocabulary, heads=in_file)
            )
            check_target(_traits(model))
            if model.fully_offloaded:
                threads.hold()
            if options.chat_template is not None:
                model.metadata["tokenizer.chat_template"] = options.chat_template
            draft_model, kind = model if in_file else None, None
            if drafter is not None and not in_file:
                draft_model = resources.enter_context(
                    _load_drafter(drafter, model, options, drafter_vocabulary)
                )
            if draft_model is not None:
                kind = _kind(draft_model, model)
            context = TargetContext(
                model,
                n_ctx=_context_size(model, options.context),
                batch=options.batch or BATCH_ROWS,
                threads=threads,
                full_window=options.full_window,
                kv_type=options.kv_type or KVType.F16,
                sequences=options.parallel,
                hidden=kind in (DrafterKind.ASSISTANT, DrafterKind.HEAD),
                all_hidden=kind is DrafterKind.HEAD,
            )
            resources.callback(context.close)
            opened: Drafter | None = NoDraftSteps() if lookup else None
            if kind is not None and draft_model is not None:
                opened = _DRAFTERS[kind](draft_model, context)
                resources.callback(opened.close)
            sequences = tuple(TargetSequence(context, i) for i in range(options.parallel))
            device = open_device_sampling(
                context, sequences[0], opened, options.devices.sampling, device_kinds
            )
            return cls(
                context,
                sequences,
                opened,
                resources.pop_all(),
                no_drafter="" if opened else no_drafter,
                load_s=perf_counter() - began,
                device=device,
            )

    def use_projector(
        self,
        path: Path,
        *,
        image_tokens: int | None = None,
        use_gpu: bool = True,
        check: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Lets prompts have images and sounds. The projector is loaded at the first one.

        Args:
            path: the projector (`mmproj`).
            image_tokens: most tokens of an image; None for the default. Within a pass, unless the
                target's images have positions on several axes.
            use_gpu: encode on a GPU, if there is one.
            check: called with the most tokens of an image before the projector is loaded for the
                first time; raises if it cannot be.
        """
        target = self.target
        multiaxial = target.model.multiaxial
        most = most_image_tokens(image_tokens, multiaxial=multiaxial)
        if image_tokens is None and not multiaxial:
            most = min(most, target.max_prefill_rows)
        unchecked = True

        def open_tower(threads: int) -> Tower:
            nonlocal unchecked
            if unchecked:
                check(most)
            unchecked = False
            from localmtp.engine.llama.mtmd import Tower

            return Tower(path, target.model, threads=threads, image_tokens=most, use_gpu=use_gpu)

        self.media = MediaEncoder(
            open_tower, target.threads, image_tokens=most, max_pass=target.max_prefill_rows
        )
        self._resources.callback(self.media.close)

    def decode_loop(self, pacing: PacingState | None = None, *, max_cached: int = 0) -> DecodeLoop:
        """A loop over all sequences. Loops of one pair must not decode at the same time.

        Args:
            pacing: see `DecodeLoop`.
            max_cached: see `DecodeLoop`.
        """
        drafter = self.drafter and PromptLookupDrafter(self.sequences, self.drafter)
        return DecodeLoop(
            self.target,
            self.sequences,
            drafter,
            no_drafter=self.no_drafter,
            copies_only=isinstance(self.drafter, NoDraftSteps),
            load_s=self.load_s,
            pacing=pacing,
            device=self.device_sampling,
            reads=self.reads,
            max_cached=max_cached,
        )

    def close(self) -> None:
        """Frees everything, the drafter first."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _load_target(
    path: Path, options: LoadOptions, vocabulary: VocabularyFile | None, *, heads: bool
) -> Model:
    layers = ALL_LAYERS if options.gpu_layers is None else options.gpu_layers
    offload = Offload(layers, options.devices)
    return _load_model(path, offload, options.progress, vocabulary, heads=heads)


def _load_drafter(
    path: Path, target: Model, options: LoadOptions, vocabulary: VocabularyFile | None
) -> Model:
    """Loads a drafter as a whole, on the device with the KV cache that it attends to."""
    own = replace(options.devices, cpu_moe=None, overrides=(), tensor_split=())
    cached = target.n_own_kv_layers
    offloaded = drafter_offloaded(options.gpu_layers, target.n_layers, cached)
    if offloaded and len(target.offload.devices) > 1:
        device = target.offload.device_of(cached - 1, target.n_layers)
        own = replace(own, names=(device.name,), split_mode=SplitMode.LAYER)
    offload = Offload(ALL_LAYERS if offloaded else 0, own)
    return _load_model(path, offload, options.progress, vocabulary, heads=True)


def _load_model(
    path: Path,
    offload: Offload,
    progress: Callable[[float], bool] | None,
    vocabulary: VocabularyFile | None,
    *,
    heads: bool = False,
) -> Model:
    if path.is_dir():
        raise LocalmtpError(
            f"{path} is a directory",
            hint="pass a GGUF file in it, or convert it with `localmtp convert`",
        )
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    if magic != b"GGUF":
        raise LocalmtpError(
            f"{path} is not a GGUF file",
            hint="convert Hugging Face checkpoints with `localmtp convert`",
        )
    try:
        return Model(path, offload=offload, progress=progress, vocabulary=vocabulary, heads=heads)
    except LocalmtpError as error:
        raise _explained(path, error, offload) from error


def _explained(path: Path, error: LocalmtpError, offload: Offload) -> LocalmtpError:
    """Replaces libllama's message by its cause, if that is known."""
    if "unable to allocate" in error.message and offload.devices:
        return LocalmtpError(error.message, hint=offload.needs_less())
    for fork in FORKS:
        if f"'{fork}'" in error.message:
            return fork_format(str(path), fork)
    if "not within the file bounds" in error.message:
        return LocalmtpError(f"{path} is truncated", hint="download or copy it again")
    return error


def _kind(drafter: Model, target: Model) -> DrafterKind:
    of_target = _traits(target)
    kind = drafter_kind(of_target, of_target if drafter is target else _traits(drafter))
    if not drafter.vocab.same_as(target.vocab):
        raise LocalmtpError(
            f"{drafter.path} was made for another target: its vocabulary differs from that of "
            f"{target.path}",
            hint="use the drafter of the same model, or a smaller model with the same vocabulary",
        )
    return kind


def _traits(model: Model) -> Traits:
    return Traits(
        name=str(model.path),
        architecture=model.architecture,
        embedding_length=model.n_embd,
        embedding_length_out=model.n_embd_out,
        n_vocab=model.vocab.size,
        n_heads=model.n_heads,
        # Reading a large vocabulary again takes a fraction of a second.
        trunk=model.architecture not in HEADS
        or not model.n_heads
        or holds_tensor(model.path, FIRST_TENSOR),
    )


def _context_size(model: Model, wanted: int | None) -> int:
    if wanted is None:
        return min(DEFAULT_CONTEXT, model.n_ctx_train)
    if wanted > model.n_ctx_train:
        raise LocalmtpError(
            f"a context of {wanted} is larger than the model's {model.n_ctx_train} ({model.path})",
            hint=f"pass `--ctx {model.n_ctx_train}` or less",
        )
    return wanted
