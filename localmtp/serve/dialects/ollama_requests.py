"""Reads requests of Ollama's API.

https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from localmtp.serve.dialects.reading import (
    DialectRequest,
    Json,
    chat_request,
    wire_request,
)
from localmtp.serve.errors import APIError
from localmtp.serve.wire.requests import ChatRequest, CompletionRequest

_NAMES = {
    "max_tokens": "options.num_predict",
    "response_format": "format",
    "reasoning_effort": "think",
    "continue_final_message": "messages",
}
_IGNORED = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "numa", "low_vram"}
    | {"f16_kv", "vocab_only", "use_mmap", "use_mlock", "penalize_newline", "draft_num_predict"}
    | {"repeat_last_n", "logits_all", "embedding_only"}
)
"""Options about where and how the model runs, which the server's flags decide."""
_EFFORTS = {True: "max", False: "none"}
_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


class _OllamaObject(BaseModel):
    model_config = ConfigDict(extra="ignore")


class OllamaMessage(_OllamaObject):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: list[str] | None = None
    """Base64."""
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    def turn(self) -> Json:
        """The same as a message of a chat request."""
        turn: Json = {"role": self.role, "content": self._content()}
        named = {"reasoning_content": self.thinking, "name": self.tool_name}
        if self.role == "tool" and self.tool_call_id:
            named["tool_call_id"] = self.tool_call_id
        turn |= {name: value for name, value in named.items() if value}
        if self.tool_calls:
            turn["tool_calls"] = [_call(call) for call in self.tool_calls]
        return turn

    def _content(self) -> str | list[Json]:
        if not self.images:
            return self.content
        images = [{"type": "image_url", "image_url": {"url": _url(data)}} for data in self.images]
        return [*images, {"type": "text", "text": self.content}]


class _OllamaRequest(DialectRequest):
    model: str
    stream: bool = True
    format: Any = None
    """`json`, or a JSON schema."""
    options: dict[str, Any] | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    keep_alive: Any = None
    """Ignored: the model stays loaded."""

    def _fields(self) -> Json:
        fields = {
            "max_tokens" if name == "num_predict" else name: value
            for name, value in (self.options or {}).items()
            if name not in _IGNORED and value is not None
        }
        if isinstance(limit := fields.get("max_tokens"), int) and limit < 0:
            del fields["max_tokens"]
        fields |= {"model": self.model.removesuffix(":latest"), "stream": self.stream}
        if self.think is not None:
            effort = self.think if isinstance(self.think, str) else _EFFORTS[self.think]
            fields["reasoning_effort"] = effort
        if self.format == "json":
            fields["response_format"] = {"type": "json_object"}
        elif isinstance(self.format, dict):
            schema = {"schema": self.format}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.format:
            raise APIError(400, "format must be `json` or a JSON schema", param="format")
        return fields


class OllamaChatRequest(_OllamaRequest):
    """`POST /api/chat`."""

    messages: list[OllamaMessage] = Field(default_factory=list)
    tools: list[dict[str, Any]] | None = None

    def chat(self) -> ChatRequest:
        """The same as a chat request; a last message of the assistant is continued.

        Raises:
            APIError: a message, a tool or an option is not supported.
        """
        messages = [message.turn() for message in self.messages]
        last = messages[-1]
        if last["role"] == "assistant" and "tool_calls" not in last:
            continued = {"continue_final_message": True}
        else:
            continued = {}
        fields = self._fields() | {"messages": messages, "tools": self.tools} | continued
        return chat_request(fields, _NAMES)


class OllamaGenerateRequest(_OllamaRequest):
    """`POST /api/generate`."""

    prompt: str = ""
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    suffix: Literal[""] | None = None
    template: Literal[""] | None = None
    context: list[Any] | None = None
    """Tokens of an earlier exchange: ignored by Ollama itself in favour of messages."""

    def chat(self) -> ChatRequest:
        """The same as a chat request with one message.

        Raises:
            APIError: an option is not supported.
        """
        if self.context:
            raise APIError(400, "context is not supported: use `/api/chat`", param="context")
        user = OllamaMessage(role="user", content=self.prompt, images=self.images)
        messages = [user.turn()]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return chat_request(self._fields() | {"messages": messages}, _NAMES)

    def completion(self) -> CompletionRequest:
        """The same as a completion request, without a template.

        Raises:
            APIError: an option is not supported.
        """
        fields = {"max_tokens": -1} | self._fields() | {"prompt": self.prompt}
        fields.pop("reasoning_effort", None)
        if self.images:
            raise APIError(400, "images are not supported with raw: true", param="images")
        if "response_format" in fields:
            raise APIError(400, "format is not supported with raw: true", param="format")
        return wire_request(CompletionRequest, fields, _NAMES)


class OllamaShowRequest(_OllamaObject):
    """`POST /api/show`."""

    model: str = ""
    name: str = ""
    """Older name of `model`."""


def _call(call: Mapping[str, Any]) -> Json:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    called = {"name": str(function.get("name", "")), "arguments": function.get("arguments")}
    return {"type": "function", "function": called} | (
        {"id": str(call["id"])} if call.get("id") else {}
    )


def _url(data: str) -> str:
    """A data URL; the type of the image is read from its first bytes."""
    if data.startswith("data:"):
        return data
    try:
        head = base64.b64decode(data[:16])
    except (binascii.Error, ValueError) as error:
        raise APIError(400, "images must be base64", param="images") from error
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "png")
    return f"data:image/{kind};base64,{data}"
