"""Sessions: conversations with a model, their settings and prompts."""

from localmtp.session.base import (
    HERE,
    Choices,
    Message,
    OnFull,
    Role,
    Session,
    Settings,
)
from localmtp.session.rendering import chat_turns, media_of, render, shown

__all__ = [
    "HERE",
    "Choices",
    "Message",
    "OnFull",
    "Role",
    "Session",
    "Settings",
    "chat_turns",
    "media_of",
    "render",
    "shown",
]
