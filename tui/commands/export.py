"""Formats a conversation and its statistics for files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from localmtp.media import Media

if TYPE_CHECKING:
    from localmtp.session import Message

_MAX_STEM = 60
"""Characters of a media file's own name that its exported file has."""


def markdown(
    title: str, messages: Sequence[Message], files: Mapping[str, Path] | None = None
) -> str:
    """Formats a conversation as Markdown, without thoughts.

    Args:
        title: heading, and name of the model.
        messages: of the conversation.
        files: paths of the media by their keys, relative to the Markdown file; None to name the
            media only.
    """
    speakers = {"user": "You", "model": title}
    turns = []
    for message in messages:
        media = [_reference(one, (files or {}).get(one.key)) for one in message.media]
        blocks = [f"## {speakers[message.role]}", *media, message.text.strip()]
        turns.append("\n\n".join(block for block in blocks if block) + "\n")
    return "\n".join([f"# {title}\n", *turns])


def as_json(
    model: str, messages: Sequence[Message], files: Mapping[str, Path] | None = None
) -> str:
    """Formats a conversation with all statistics as JSON.

    Args:
        model: its name.
        messages: of the conversation.
        files: paths of the media by their keys, relative to the JSON file; None for none.
    """
    turns = [
        {
            "role": message.role,
            "text": message.text,
            **({"media": _media_objects(message.media, files or {})} if message.media else {}),
            "thought": message.thought,
            "finish_reason": message.finish,
            "stats": message.stats.as_dict() if message.stats else None,
        }
        for message in messages
    ]
    return json.dumps({"model": model, "messages": turns}, indent=2, ensure_ascii=False) + "\n"


def conversation_files(path: Path, title: str, messages: Sequence[Message]) -> dict[Path, bytes]:
    """Returns the files of an exported conversation: Markdown or JSON, and its media.

    The media are written to a folder next to the file, named after it.

    Args:
        path: of the file; JSON if it ends in `.json`.
        title: see `markdown`.
        messages: of the conversation.
    """
    folder = Path(f"{path.stem}-media")
    media = {one.key: one for message in messages for one in message.media}
    names = {key: folder / _file_name(n, one) for n, (key, one) in enumerate(media.items(), 1)}
    form = as_json if path.suffix == ".json" else markdown
    text = form(title, messages, names).encode(errors="replace")
    return {path: text} | {path.parent / names[key]: one.data for key, one in media.items()}


def _file_name(number: int, media: Media) -> str:
    """Returns a file name that no name in a conversation can turn into another path."""
    stem = Path(media.name).stem if media.name else media.kind
    safe = re.sub(r"[^\w.-]+", "-", stem).strip(".-")[:_MAX_STEM]
    return f"{number:02}-{safe or media.kind}.{media.format.lower() or 'bin'}"


def _reference(media: Media, file: Path | None) -> str:
    name = re.sub(r"[\[\]\\\n\r]", " ", media.name) or media.kind
    if file is None:
        return f"*[{media.kind}: {name}]*"
    mark = "!" if media.kind == "image" else ""
    return f"{mark}[{name}]({quote(file.as_posix())})"


def _media_objects(
    media: Sequence[Media], files: Mapping[str, Path]
) -> list[dict[str, str | int | None]]:
    return [
        {
            "kind": one.kind,
            "name": one.name,
            "bytes": len(one.data),
            "sha256": one.key,
            "file": files[one.key].as_posix() if one.key in files else None,
        }
        for one in media
    ]
