"""A conversation or its statistics as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.session import Message


def markdown(title: str, messages: Sequence[Message]) -> str:
    """The conversation to read; thoughts are left out."""
    speakers = {"user": "You", "model": title}
    turns = [f"## {speakers[message.role]}\n\n{message.text.strip()}\n" for message in messages]
    return "\n".join([f"# {title}\n", *turns])


def as_json(model: str, messages: Sequence[Message]) -> str:
    """The conversation with everything that was measured."""
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


def write(path: Path, text: str) -> None:
    """Writes beside and renames, so that an older file is whole until the new one is.

    Raises:
        LocalmtpError: the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise LocalmtpError(f"cannot write {path}: {error.strerror}") from error
