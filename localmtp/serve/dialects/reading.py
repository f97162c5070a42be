"""Shared by the readers of other APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from localmtp.serve.errors import APIError
from localmtp.serve.wire.requests import ChatRequest, CompletionRequest

Json = dict[str, Any]
WireRequest = TypeVar("WireRequest", ChatRequest, CompletionRequest)


class DialectRequest(BaseModel):
    """A request body: unknown fields are rejected unless they are null."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if v is not None or k in cls.model_fields}


def chat_request(fields: Mapping[str, Any], names: Mapping[str, str]) -> ChatRequest:
    """Build a chat request; see `wire_request`."""
    return wire_request(ChatRequest, fields, names)


def wire_request(
    kind: type[WireRequest], fields: Mapping[str, Any], names: Mapping[str, str]
) -> WireRequest:
    """Build a request of OpenAI's API.

    Args:
        kind: of request.
        fields: of the request; those that are None are left out.
        names: what the fields are called in the other API, for errors.

    Raises:
        APIError: a value is invalid.
    """
    try:
        return kind.model_validate({k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        param = names.get(field, field)
        raise APIError(400, f"{param}: {first['msg']}", param=param) from error


_TEXTS = ("text", "input_text", "output_text", "refusal", "reasoning_text", "summary_text")
"""Types of parts with a text."""


def text_parts(content: Any, param: str) -> list[Json]:
    """Content as text parts.

    Raises:
        APIError: a part is not text.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise APIError(400, f"{param}: content must be a string or a list", param=param)
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
        if kind not in _TEXTS:
            raise APIError(400, f"content of type {kind!r} is not supported", param=param)
        if not isinstance(text, str):
            raise APIError(400, f"{param}: {kind} without text", param=param)
        parts.append({"type": "text", "text": text})
    return parts


def content_parts(content: Any, param: str) -> list[Json]:
    """Content as parts of a chat message: text, images and sounds, in their order.

    Raises:
        APIError: a part is of another type.
    """
    if not isinstance(content, list):
        return text_parts(content, param)
    return [part for given in content for part in _media_part(given, param)]


def _media_part(part: Any, param: str) -> list[Json]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "input_image":
        if not isinstance(part.get("image_url"), str):
            raise APIError(400, f"{param}: input_image without image_url", param=param)
        return [{"type": "image_url", "image_url": part["image_url"]}]
    if kind == "input_audio":
        return [{"type": "input_audio", "input_audio": part.get("input_audio")}]
    if kind == "image":
        return [{"type": "image_url", "image_url": _source(part.get("source"), param)}]
    return text_parts([part], param)


def _source(source: Any, param: str) -> str:
    """Address of an image of Anthropic's API."""
    match source:
        case {"type": "base64", "data": str(data)}:
            return f"data:{source.get('media_type')};base64,{data}"
        case {"type": "url", "url": str(url)}:
            return url
    kind = source.get("type") if isinstance(source, dict) else None
    message = f"{param}: an image needs a source of type base64 or url, not {str(kind)[:50]!r}"
    raise APIError(400, message, param=param)


def joined(parts: list[Json]) -> str:
    """Text of text parts."""
    return "".join(part["text"] for part in parts)


def joined_text(parts: list[Json]) -> str | list[Json]:
    """Text of parts that are all text; other parts unchanged."""
    return joined(parts) if all(part["type"] == "text" for part in parts) else parts
