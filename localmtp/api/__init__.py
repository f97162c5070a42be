"""The Python interface: load a model, generate replies, read their statistics.

Everything here is exported by `localmtp` itself; see `docs/python.md`.
"""

from localmtp.api.loading import connect, load
from localmtp.api.model import LanguageModel
from localmtp.api.options import ChatOptions, CompletionOptions
from localmtp.api.reply import Reply
from localmtp.engine.events import (
    Channel,
    Event,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Piece,
    Prefilled,
)
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.errors import LocalmtpError

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
    "connect",
    "load",
]
