"""Loads models by name, and connects to servers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.api.model import LanguageModel
from localmtp.api.options import check_value
from localmtp.models import ModelFiles, resolve
from localmtp.portability import DeferredInterrupt

if TYPE_CHECKING:
    from localmtp.engine.decoding.trace import Round
    from localmtp.engine.device_options import DeviceOptions
    from localmtp.models.store.download import TransferProgress


def load(
    model: str | os.PathLike[str] | ModelFiles | None = None,
    *,
    drafter: str | os.PathLike[str] | None = None,
    mmproj: str | os.PathLike[str] | None = None,
    ctx: int | None = None,
    threads: int | None = None,
    gpu_layers: int | None = None,
    devices: DeviceOptions | None = None,
    kv_type: str | None = None,
    batch: int | None = None,
    chat_template: str | os.PathLike[str] | None = None,
    image_tokens: int | None = None,
    offline: bool = False,
    on_download: Callable[[TransferProgress], None] | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> LanguageModel:
    """Loads a pair, after downloading what is missing.

    The arguments are those of the command line; None leaves a choice to the program.

    Args:
        model: `nano`, a name such as `gemma4-e4b:Q4_K_M`, `USER/REPO[:QUANT]`, or the path of a
            GGUF file; None for the default model. Also what `localmtp.models.resolve` returns.
        drafter: path of another drafter; "none" for no drafting.
        mmproj: path of another projector; "none" for no images and sound.
        ctx: positions of the context.
        threads: CPU threads.
        gpu_layers: layers on GPUs.
        devices: which GPUs, and what stays in main memory; None for the defaults.
        kv_type: type of the KV cache, "f16" or "q8_0".
        batch: prompt tokens per pass.
        chat_template: path of a Jinja template that replaces the model's own.
        image_tokens: most tokens of an image.
        offline: never use the network.
        on_download: called with the progress of downloads, after every chunk.
        on_round: called with every round of drafting and verifying, on the thread that generates.

    Raises:
        LocalmtpError: an argument is out of range, the name is unknown, a file is missing or
            damaged, a download failed, or the pair does not fit the memory.
    """
    with DeferredInterrupt():
        from localmtp.engine.decoding.trace import Trace
        from localmtp.engine.device_options import DeviceOptions
        from localmtp.engine.kv_type import KVType
        from localmtp.engine.pair import LoadOptions
        from localmtp.engine.text.template_file import read_template
        from localmtp.session.local import open_session

    given = {"ctx": ctx, "threads": threads, "gpu_layers": gpu_layers, "batch": batch}
    for name, value in {**given, "kv_type": kv_type, "image_tokens": image_tokens}.items():
        if value is not None:
            check_value(name, value)
    if not isinstance(model, ModelFiles):
        model = resolve(
            None if model is None else os.fspath(model),
            drafter=None if drafter is None else os.fspath(drafter),
            projector=None if mmproj is None else os.fspath(mmproj),
            offline=offline,
            progress=on_download,
        )
    options = LoadOptions(
        context=ctx,
        threads=threads,
        gpu_layers=gpu_layers,
        devices=devices or DeviceOptions(),
        kv_type=KVType(kv_type) if kv_type else None,
        batch=batch,
        image_tokens=image_tokens,
        chat_template=read_template(Path(chat_template)) if chat_template else None,
    )
    session = open_session(model, options=options)
    if on_round:
        session.trace = Trace(on_round)
    hints = [session.hint] if session.hint else []
    return LanguageModel(session, [*model.warnings, *hints])


def connect(url: str, model: str | None = None, *, api_key: str = "") -> LanguageModel:
    """Uses a model of an OpenAI-compatible server.

    Args:
        url: of the server, for example `http://127.0.0.1:8080`.
        model: its name there; None for the first that the server offers.
        api_key: empty for none.

    Raises:
        LocalmtpError: nothing answers, the key is refused, or the server has no such model.
    """
    from localmtp.remote.session import open_remote

    return LanguageModel(open_remote(url, model, api_key=api_key))
