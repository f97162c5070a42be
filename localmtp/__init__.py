"""Run Gemma 4 locally with multi-token prediction.

The Python interface, documented in `docs/python.md`, is imported on first use: `import localmtp`
alone loads neither llama.cpp nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localmtp.api import (
        Channel,
        ChatOptions,
        CompletionOptions,
        Event,
        Finished,
        FinishReason,
        Generated,
        LanguageModel,
        LocalmtpError,
        Origin,
        Piece,
        Prefilled,
        Reply,
        Stats,
        TimeSpent,
        connect,
        load,
    )

__version__ = "0.1.0"

__all__ = [
    "Channel",
    "ChatOptions",
    "CompletionOptions",
    "Event",
    "FinishReason",
    "Finished",
    "Generated",
    "LanguageModel",
    "LocalmtpError",
    "Origin",
    "Piece",
    "Prefilled",
    "Reply",
    "Stats",
    "TimeSpent",
    "__version__",
    "connect",
    "load",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from localmtp.portability import DeferredInterrupt

        with DeferredInterrupt():
            return getattr(import_module("localmtp.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
