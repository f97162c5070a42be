"""Places of images and sound in rendered prompts.

A chat template writes a placeholder for each image and sound, such as `<|image|>`. In the rendered
prompt it becomes a Unicode noncharacter, which content cannot contain (see `quoting`), so that a
placeholder written by a user stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from localmtp.engine.text.quoting import MEDIA_MARK

_PLACEHOLDERS = {
    "image": (
        "<|image|>",  # Gemma 4
        "<start_of_image>",  # Gemma 3
        "<|vision_start|><|image_pad|><|vision_end|>",  # Qwen
    ),
    "audio": ("<|audio|>", "<|audio_start|><|audio_pad|><|audio_end|>"),
}
_KINDS = {text: kind for kind, texts in _PLACEHOLDERS.items() for text in texts}
_PLACEHOLDER = re.compile("|".join(map(re.escape, _KINDS)))


def media_kinds(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the kinds of all media in messages, in order.

    Their parts are mappings with the `type` `image` or `audio`.
    """
    return [
        str(part["type"])
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, Mapping) and part.get("type") in _PLACEHOLDERS
    ]


def with_marks(prompt: str, kinds: Sequence[str]) -> str | None:
    """Replaces the placeholders of a rendered prompt by marks.

    Args:
        prompt: its content is quoted.
        kinds: of the media, in order.

    Returns:
        None if the placeholders are not those of the media.
    """
    if [_KINDS[match[0]] for match in _PLACEHOLDER.finditer(prompt)] != [*kinds]:
        return None
    return _PLACEHOLDER.sub(MEDIA_MARK, prompt)


def as_texts(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns quoted messages with plain contents, for templates that know no parts.

    Args:
        messages: quoted, with contents in parts.
    """
    return [
        {**message, "content": _joined(message["content"])}
        if isinstance(message.get("content"), list)
        else dict(message)
        for message in messages
    ]


def _joined(parts: Sequence[Any]) -> str:
    texts = []
    for part in parts:
        is_media = isinstance(part, Mapping) and part.get("type") in _PLACEHOLDERS
        texts.append(MEDIA_MARK if is_media else str(part.get("text", "")))
    return "".join(texts)
