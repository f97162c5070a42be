"""Reads requests of OpenAI's Responses API.

https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

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
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text",
    "reasoning_effort": "reasoning",
}
_CUSTOM = "custom"
_INPUT = "input"
"""Argument of the function that a custom tool becomes."""
_HOSTED = ("web_search",)
"""Tools that a server runs: left out, so that the model does not know of them."""


class ReasoningOptions(BaseModel):
    """Whether to think; the summary of a thought is the thought."""

    model_config = ConfigDict(extra="ignore")

    effort: str | None = None
    summary: str | None = None


class TextOptions(BaseModel):
    """Format of the answer."""

    model_config = ConfigDict(extra="ignore")

    format: dict[str, Any] | None = None


class ResponsesRequest(DialectRequest):
    """`POST /v1/responses`."""

    model: str | None = None
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    background: Literal[False] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """`auto` is accepted, but nothing is ever left out of a prompt."""
    top_logprobs: Literal[0] | None = None
    max_tool_calls: Any = None
    """Ignored, like the fields below: of tools that the server runs, or without effect."""
    include: Any = None
    user: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    stream_options: Any = None
    client_metadata: Any = None
    n_draft: Any = None
    """Extension, as in chat completions."""
    seed: Any = None
    chat_template_kwargs: Any = None
    top_k: Any = None
    min_p: Any = None
    stop: Any = Field(None)

    def items(self) -> list[Json]:
        """The input as items."""
        if isinstance(self.input, str):
            return [{"type": "message", "role": "user", "content": self.input}]
        return self.input

    def chat(self, items: Sequence[Json]) -> ChatRequest:
        """The same as a chat request.

        Args:
            items: those of the previous response, if any, and of this request.

        Raises:
            APIError: an item, a tool or a value is not supported.
        """
        messages = _messages(items)
        if self.instructions:
            messages.insert(0, {"role": "system", "content": self.instructions})
        tools = [_tool(tool) for tool, _ in self._functions()]
        fields: Json = {
            "model": self.model,
            "messages": messages,
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stream": self.stream,
            "tools": tools,
            "tool_choice": _tool_choice(self.tool_choice) if tools else None,
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": _format(self.text),
            "reasoning_effort": self.reasoning.effort if self.reasoning else None,
        }
        same = ("n_draft", "seed", "chat_template_kwargs", "top_k", "min_p", "stop")
        return chat_request(fields | {name: getattr(self, name) for name in same}, _NAMES)

    def custom_tools(self) -> frozenset[str]:
        """Names of tools that take a text instead of arguments."""
        return frozenset(
            str(tool.get("name")) for tool, _ in self._functions() if tool.get("type") == _CUSTOM
        )

    def namespaces(self) -> dict[str, str]:
        """Namespaces of functions, by name of the function."""
        return {tool.get("name", ""): space for tool, space in self._functions() if space}

    def _functions(self) -> Iterator[tuple[Json, str]]:
        """Tools that are not hosted, with their namespaces; namespaces are flattened."""
        for tool in self.tools or ():
            if str(tool.get("type", "")).startswith(_HOSTED):
                continue
            inner = tool.get("tools") if tool.get("type") == "namespace" else None
            if not isinstance(inner, list):
                yield tool, ""
                continue
            for function in inner:
                if isinstance(function, dict):
                    yield function, str(tool.get("name", ""))


def _messages(items: Sequence[Json]) -> list[Json]:
    """Chat messages; reasoning, text and calls in a row are one message of the assistant."""
    messages: list[Json] = []
    assistant: Json | None = None
    for item in items:
        kind = item.get("type", "message")
        role = item.get("role") if kind == "message" else "assistant"
        if kind in ("function_call_output", "custom_tool_call_output"):
            assistant = None
            output = joined_text(content_parts(item.get("output"), "input"))
            call_id = item.get("call_id")
            messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
            continue
        if role != "assistant":
            assistant = None
            messages.append({"role": role, "content": content_parts(item.get("content"), "input")})
            continue
        if assistant is None or (kind == "message" and "tool_calls" in assistant):
            assistant = {"role": "assistant", "content": ""}
            messages.append(assistant)
        _extend(assistant, kind, item)
    return messages


def _extend(assistant: Json, kind: str, item: Json) -> None:
    if kind == "message":
        assistant["content"] += joined(text_parts(item.get("content"), "input"))
    elif kind == "reasoning":
        # Clients that show summaries only send these back.
        thought = joined(text_parts(item.get("content") or item.get("summary"), "input"))
        assistant["reasoning_content"] = assistant.get("reasoning_content", "") + thought
    elif kind in ("function_call", "custom_tool_call"):
        arguments = (
            item.get("arguments") if kind == "function_call" else {_INPUT: item.get("input")}
        )
        function = {"name": item.get("name"), "arguments": arguments}
        calls = assistant.setdefault("tool_calls", [])
        calls.append({"id": item.get("call_id"), "type": "function", "function": function})
    else:
        raise APIError(400, f"items of type {kind!r} are not supported", param="input")


def _tool(tool: Json) -> Json:
    if tool.get("type") == _CUSTOM:
        return {"type": "function", "function": _custom(tool)}
    if tool.get("type") != "function":
        message = f"tools of type {tool.get('type')!r} are not supported"
        raise APIError(400, message, param="tools")
    fields = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool.get(name) for name in fields}}


def _custom(tool: Json) -> Json:
    """A tool that takes a text, as a function with one argument; its format is described only."""
    form = tool.get("format")
    form = form if isinstance(form, dict) else {}
    parts = [tool.get("description"), form.get("definition")]
    text = {"type": "string", "description": "The whole input of the tool."}
    return {
        "name": tool.get("name"),
        "description": "\n\n".join(part for part in parts if isinstance(part, str)),
        "parameters": {"type": "object", "properties": {_INPUT: text}, "required": [_INPUT]},
    }


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") not in ("function", _CUSTOM):
        message = f"tool_choice of type {choice.get('type')!r} is not supported"
        raise APIError(400, message, param="tool_choice")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _format(text: TextOptions | None) -> Json | None:
    if text is None or text.format is None:
        return None
    form = dict(text.format)
    kind = form.pop("type", None)
    return {"type": kind, "json_schema": form} if kind == "json_schema" else {"type": kind}
