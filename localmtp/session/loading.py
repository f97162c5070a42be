"""Putting a pair into memory, in the way that fits this machine."""

from __future__ import annotations

from dataclasses import replace

from localmtp.engine.llama.ggml import devices
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.threads import Threads
from localmtp.hardware import machine
from localmtp.models import ModelFiles
from localmtp.models.memory.available import memory_of, place_here
from localmtp.models.memory.estimate import Load


def load_pair(files: ModelFiles, options: LoadOptions) -> Pair:
    """Load a pair that fits.

    What fits is found out first: libllama would be given memory that is not there, and the system
    would swap or end the program. What was chosen is told by the pair.

    Args:
        files: the pair.
        options: what is None is chosen.

    Raises:
        LocalmtpError: it does not fit, and what would; or see `Pair.load`.
    """
    placement = place_here(files, options)
    if placement:
        load = placement.load
        options = replace(
            options,
            context=load.context,
            kv_type=load.kv_type,
            batch=load.batch,
            gpu_layers=load.gpu_layers,
        )
    threads = Threads(
        options.threads or machine.cores(), None if options.threads else machine.usage
    )
    pair = Pair.load(files.target, files.drafter, options, threads)
    threads.look()  # reading large files takes long enough to see what else goes on
    pair.placed = placement.words if placement else ""
    load = placement.load if placement else Load(pair.target.n_ctx, parallel=options.parallel)
    pair.device = _device(options.gpu_layers, threads.most)
    pair.memory = memory_of(files, load)
    return pair


def _device(gpu_layers: int | None, threads: int) -> str:
    """What computes; layers of None are all of them."""
    gpus = ", ".join(device.description for device in devices()) if gpu_layers != 0 else ""
    return gpus or f"CPU, {threads} {'thread' if threads == 1 else 'threads'}"
