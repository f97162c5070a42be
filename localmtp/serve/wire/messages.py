"""Messages and tools of a chat request, as chat templates expect them.

Histories are read leniently: clients send back what models and other servers produced, and a
conversation must survive an old mistake. Whatever a message says reaches the template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from localmtp.serve.errors import APIError
from localmtp.serve.wire.requests import (
    CalledFunction,
    ChatMessage,
    ChatRequest,
    ContentPart,
    FunctionTool,
    ToolChoice,
)
from localmtp.serve.wire.tools import CallRules

Json = dict[str, Any]

_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})


def turns(messages: Sequence[ChatMessage]) -> list[Json]:
    """Convert the messages.

    Calls without an id get one, and results of tools are matched to a call by id, by name, or in
    order. A result without any call in front of it becomes a message of the user: templates would
    drop it.

    Raises:
        APIError: a message has content other than text.
    """
    converted: list[Json] = []
    pending: list[Json] = []
    for message in messages:
        if message.role in ("tool", "function"):
            turn = _result(message, pending)
        else:
            turn = _turn(message, len(converted))
            pending = list(turn.get("tool_calls", ()))
        converted.append(turn)
    return converted


def tools(functions: Sequence[FunctionTool]) -> list[Json]:
    """Functions as templates expect them."""
    return [
        {"type": "function", "function": function.model_dump(exclude_none=True)}
        for function in functions
    ]


def functions(body: ChatRequest) -> list[FunctionTool]:
    """Functions that the model may call; empty for `tool_choice: none`."""
    return [] if body.tool_choice == "none" else [tool.function for tool in body.tools or ()]


def call_rules(body: ChatRequest) -> CallRules | None:
    """Constraints on the tool calls of the answer; None if it is free.

    Raises:
        APIError: `tool_choice` requires a call that no tool allows.
    """
    offered = {function.name: function for function in functions(body)}
    choice = body.tool_choice
    if isinstance(choice, ToolChoice):
        name = choice.function.name
        if name not in offered:
            raise APIError(400, f"no tool is named {name!r}", param="tool_choice")
        return CallRules({name: offered[name].parameters}, required=True, parallel=False)
    if choice == "required" and not offered:
        message = "tool_choice is 'required', but there are no tools"
        raise APIError(400, message, param="tool_choice")
    parallel = body.parallel_tool_calls is not False
    required = choice == "required"
    strict = any(function.strict for function in offered.values())
    if not offered or not (required or strict or not parallel):
        return None
    # A function without `strict` accepts any arguments unless a call is required.
    schemas = {
        name: function.parameters if required or function.strict else None
        for name, function in offered.items()
    }
    return CallRules(schemas, required=required, parallel=parallel)


def _turn(message: ChatMessage, number: int) -> Json:
    role = "system" if message.role == "developer" else message.role
    turn: Json = {"role": role, "content": text_of(message.content)}
    if message.name:
        turn["name"] = message.name
    if thought := message.reasoning_content or message.reasoning:
        turn["reasoning_content"] = thought
    calls = [(call.id, call.function) for call in message.tool_calls or ()]
    if message.function_call and not calls:
        calls = [(None, message.function_call)]
    if calls:
        turn["tool_calls"] = [
            _call(given or f"call_{number}_{i}", function)
            for i, (given, function) in enumerate(calls)
        ]
    return turn


def _result(message: ChatMessage, pending: list[Json]) -> Json:
    """Result of a tool, for the first of the pending calls that fits."""
    text = text_of(message.content)
    by_id = [call for call in pending if call["id"] == message.tool_call_id]
    named = [call for call in pending if call["function"]["name"] == message.name]
    call = next(iter(by_id or named or pending), None)
    if call is None:
        return {"role": "user", "content": f"Result of {message.name or 'a tool'}:\n{text}"}
    pending.remove(call)
    return {
        "role": "tool",
        "tool_call_id": call["id"],
        "name": call["function"]["name"],
        "content": text,
    }


def text_of(content: str | Sequence[str | ContentPart] | None) -> str:
    """Text of a message's content.

    Raises:
        APIError: a part is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif part.type in _TEXT_PARTS:
            texts.append(part.text or part.refusal or "")
        else:
            message = f"content of type {part.type!r} is not supported"
            raise APIError(400, message, param="messages")
    return "".join(texts)


def _call(id: str, function: CalledFunction) -> Json:  # noqa: A002 - the API's name
    """A call with parsed arguments: templates render them in the model's own notation."""
    arguments: Any = function.arguments
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments or "{}", strict=False)
    if arguments is None:
        arguments = {}
    elif not isinstance(arguments, dict):  # cut off, or never an object: shown unchanged
        arguments = {"arguments": function.arguments}
    called = {"name": function.name, "arguments": arguments}
    return {"id": id, "type": "function", "function": called}
