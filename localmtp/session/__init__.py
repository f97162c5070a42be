"""Conversations: history, prompt, generation, statistics."""

from localmtp.session.base import (
    Choices,
    Message,
    OnFull,
    Role,
    Session,
    Settings,
    chat_turns,
    render,
)

__all__ = [
    "Choices",
    "Message",
    "OnFull",
    "Role",
    "Session",
    "Settings",
    "chat_turns",
    "render",
]
