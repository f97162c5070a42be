"""Reads requests of Anthropic's Messages API.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from localmtp.serve.dialects.reading import (
    DialectRequest,
    Json,
    chat_request,
    content_parts,
    joined,
    joined_text,
    text_parts,
)
from localmtp.serve.errors import APIError
from localmtp.serve.wire.requests import ChatRequest

_NAMES = {
    "stop": "stop_sequences",
    "reasoning_effort": "thinking",
    "thinking_budget_tokens": "thinking",
}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ThinkingOptions(_Loose):
    """Whether to think, and for how many tokens."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None


class AnthropicTool(_Loose):
    """A function that the model may call."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class AnthropicToolChoice(_Loose):
    """Whether and which tool must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class AnthropicMessage(_Loose):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class CountTokensRequest(DialectRequest):
    """`POST /v1/messages/count_tokens`."""

    model: str | None = None
    messages: Annotated[list[AnthropicMessage], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: list[AnthropicTool] | None = None
    tool_choice: AnthropicToolChoice | None = None
    thinking: ThinkingOptions | None = None
    metadata: Any = None
    """Ignored, like the fields below: they do not change the answer."""
    service_tier: Any = None
    context_management: Any = None
    cache_control: Any = None
    inference_geo: Any = None
    speed: Any = None
    diagnostics: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None
    betas: Any = None
    output_config: dict[str, Any] | None = None
    """`format`, with a JSON schema, and `effort`, which limits adaptive thinking."""
    output_format: dict[str, Any] | None = None
    """Older name of `output_config.format`."""

    def chat(self) -> ChatRequest:
        """The same as a chat request.

        Raises:
            APIError: a block, a tool or a value is not supported.
        """
        return chat_request(self._fields(), _NAMES)

    def _fields(self) -> Json:
        messages = [turn for message in self.messages for turn in _turns(message)]
        last = messages[-1]
        continued = last["role"] == "assistant" and "tool_calls" not in last
        if system := joined(text_parts(self.system, "system")):
            messages.insert(0, {"role": "system", "content": system})
        fields: Json = {
            "model": self.model,
            "messages": messages,
            "continue_final_message": continued,
            "tools": [_tool(tool) for tool in self.tools or ()],
            "response_format": _format(self.output_config or {"format": self.output_format}),
        }
        if self.thinking:
            fields |= self._thinking(self.thinking)
        if choice := self.tool_choice:
            named = {"type": "function", "function": {"name": choice.name}}
            fields["tool_choice"] = _CHOICES.get(choice.type, named)
            if choice.disable_parallel_tool_use:
                fields["parallel_tool_calls"] = False
        return fields

    def _thinking(self, thinking: ThinkingOptions) -> Json:
        if thinking.type == "disabled":
            return {"reasoning_effort": "none"}
        if thinking.budget_tokens is not None:
            return {"reasoning_effort": "max", "thinking_budget_tokens": thinking.budget_tokens}
        effort = (self.output_config or {}).get("effort")
        return {"reasoning_effort": effort if effort in _EFFORTS else "max"}


class MessagesRequest(CountTokensRequest):
    """`POST /v1/messages`."""

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    n_draft: Any = None
    """Extension, as in chat completions."""
    seed: Any = None

    def _fields(self) -> Json:
        same = ("max_tokens", "temperature", "top_p", "top_k", "stream", "n_draft", "seed")
        return {
            **super()._fields(),
            **{name: getattr(self, name) for name in same},
            "stop": self.stop_sequences,
        }


def _turns(message: AnthropicMessage) -> list[Json]:
    """Chat messages; results of tools come before the text of a message."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    turn: Json = {"role": message.role, "content": []}
    results: list[Json] = []
    for block in message.content:
        kind = block.get("type")
        if kind == "tool_result":
            results.append(_result(block))
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": block.get("input") or {}}
            call = {"id": block.get("id"), "type": "function", "function": function}
            turn.setdefault("tool_calls", []).append(call)
        elif kind == "thinking":
            turn["reasoning_content"] = turn.get("reasoning_content", "") + _thought(block)
        elif kind != "redacted_thinking":
            turn["content"] += content_parts([block], "messages")
    return [*results, *([turn] if turn["content"] or "tool_calls" in turn or not results else [])]


def _thought(block: Json) -> str:
    thought = block.get("thinking")
    return thought if isinstance(thought, str) else ""


def _result(block: Json) -> Json:
    parts = content_parts(block.get("content"), "messages")
    if block.get("is_error"):
        parts.insert(0, {"type": "text", "text": "Error: "})
    content = joined_text(parts)
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}


def _tool(tool: AnthropicTool) -> Json:
    if tool.type not in (None, "custom"):
        raise APIError(400, f"tools of type {tool.type!r} are not supported", param="tools")
    function = {"name": tool.name, "description": tool.description, "strict": tool.strict}
    return {"type": "function", "function": function | {"parameters": tool.input_schema}}


def _format(config: Json | None) -> Json | None:
    form = (config or {}).get("format")
    if not isinstance(form, dict):
        return None
    if form.get("type") != "json_schema":
        message = f"output_config.format of type {form.get('type')!r} is not supported"
        raise APIError(400, message, param="output_config")
    return {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}
