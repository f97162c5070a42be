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
from localmtp.serve.media.sources import MediaCollector
from localmtp.serve.wire.requests import (
    CalledFunction,
    ChatMessage,
    ChatRequest,
    ContentPart,
    FunctionTool,
    MediaAddress,
    ToolChoice,
)
from localmtp.serve.wire.tools import CallRules

Json = dict[str, Any]

_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})


def turns(messages: Sequence[ChatMessage], media: MediaCollector) -> list[Json]:
    """Convert the messages.

    Calls without an id get one, and results of tools are matched to a call by id, by name, or in
    order. A result without any call in front of it becomes a message of the user: templates would
    drop it. So do images in results of tools, which templates have no place for.

    Args:
        messages: of the request.
        media: collects images and sounds; their parts have nothing but a `type`.

    Raises:
        APIError: a message has content of another type.
    """
    converted: list[Json] = []
    pending: list[Json] = []
    shown: list[Json] = []
    for message in messages:
        if message.role in ("tool", "function"):
            converted.append(_result(message, pending, media, shown))
            continue
        if shown:
            converted.append({"role": "user", "content": shown})
            shown = []
        turn = _turn(message, len(converted), media)
        pending = list(turn.get("tool_calls", ()))
        converted.append(turn)
    return [*converted, *([{"role": "user", "content": shown}] if shown else [])]


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


def _turn(message: ChatMessage, number: int, media: MediaCollector) -> Json:
    role = "system" if message.role == "developer" else message.role
    turn: Json = {"role": role, "content": _content(message.content, media)}
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


def _result(
    message: ChatMessage, pending: list[Json], media: MediaCollector, shown: list[Json]
) -> Json:
    """Result of a tool, for the first of the pending calls that fits; media go to `shown`."""
    text = _content(message.content, media)
    if isinstance(text, list):
        shown += [part for part in text if part["type"] != "text"]
        text = "".join(part.get("text", "") for part in text)
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


def _content(
    content: str | Sequence[str | ContentPart] | None, media: MediaCollector
) -> str | list[Json]:
    """Text of a message's content; parts if it has media, in their order.

    Raises:
        APIError: a part is of another type.
    """
    if content is None or isinstance(content, str):
        return content or ""
    before = len(media.sources)
    parts = [_part(part, media) for part in content]
    if len(media.sources) == before:
        return "".join(part["text"] for part in parts)
    return [part for part in parts if part.get("text") != ""]


def _part(part: str | ContentPart, media: MediaCollector) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if part.type in _TEXT_PARTS:
        return {"type": "text", "text": part.text or part.refusal or ""}
    if part.type in ("image_url", "input_image"):
        media.add("image", _address(part.image_url))
        return {"type": "image"}
    if part.type in ("input_audio", "audio_url"):
        sound = part.input_audio
        encoded = f"data:audio;base64,{sound.data}" if sound and sound.data else None
        media.add("audio", encoded or _address(part.audio_url))
        return {"type": "audio"}
    message = f"content of type {part.type[:50]!r} is not supported"
    raise APIError(400, message, param=media.param)


def _address(given: MediaAddress | str | None) -> str | None:
    return given.url if isinstance(given, MediaAddress) else given


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
