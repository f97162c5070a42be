"""Formats a conversation and its statistics for files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localmtp.session import Message


def markdown(title: str, messages: Sequence[Message]) -> str:
    """Formats a conversation as Markdown, without thoughts."""
    speakers = {"user": "You", "model": title}
    turns = [f"## {speakers[message.role]}\n\n{message.text.strip()}\n" for message in messages]
    return "\n".join([f"# {title}\n", *turns])


def as_json(model: str, messages: Sequence[Message]) -> str:
    """Formats a conversation with all statistics as JSON."""
    turns = [
        {
            "role": message.role,
            "text": message.text,
            "thought": message.thought,
            "finish_reason": message.finish,
            "stats": message.stats.as_dict() if message.stats else None,
        }
        for message in messages
    ]
    return json.dumps({"model": model, "messages": turns}, indent=2, ensure_ascii=False) + "\n"
