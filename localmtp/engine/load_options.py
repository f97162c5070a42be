"""Options for loading a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.kv_type import KVType


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Options for loading a pair; values are chosen for fields that are None."""

    context: int | None = None
    """Context of a sequence in tokens, prompt and answer together."""
    threads: int | None = None
    gpu_layers: int | None = None
    """Layers offloaded to GPUs, as libllama counts them: the output is one more."""
    devices: DeviceOptions = field(default_factory=DeviceOptions)
    kv_type: KVType | None = None
    batch: int | None = None
    """Rows of the largest prefill batch."""
    full_window: bool = False
    """Allocate sliding-window layers at full context size."""
    parallel: int = 1
    """Sequences decoded together, each with the whole context."""
    image_tokens: int | None = None
    """Most tokens of an image, within what the model allows."""
    chat_template: str | None = None
    """Jinja source that replaces the template of the target's file."""
    prompt_cache: Path | None = None
    """Directory of states of sequences; None to keep them in memory only."""
    prompt_cache_bytes: int = 8_000_000_000
    host_cache_bytes: int = 0
    """Of host memory, for conversations whose sequence another one takes."""
    progress: Callable[[float], bool] | None = None
    """Receives the loaded share of a file, 0 to 1; returning False cancels. Must not raise."""
