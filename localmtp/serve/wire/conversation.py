"""OpenAI's messages and tools as chat templates know them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from localmtp.serve.errors import APIError
from localmtp.serve.wire.requests import ChatRequest, Message, ToolCall, ToolChoice
from localmtp.serve.wire.tools import OPEN

Json = dict[str, Any]


def turns(messages: Sequence[Message]) -> list[Json]:
    """The conversation so far.

    Raises:
        APIError: a message holds something that is not text, or a call that is not JSON.
    """
    return [_turn(message) for message in messages]


def tools(body: ChatRequest) -> list[Json]:
    """The functions that the model is told of."""
    if body.tool_choice == "none":
        return []
    return [tool.model_dump(exclude_none=True) for tool in body.tools or ()]


def begun_call(body: ChatRequest) -> str:
    """What makes the model call a function: the beginning of its answer.

    Raises:
        APIError: a call is wanted of a function that is not among the tools.
    """
    names = [tool.function.name for tool in body.tools or ()]
    choice = body.tool_choice
    if isinstance(choice, ToolChoice):
        if choice.function.name not in names:
            message = f"there is no tool named {choice.function.name!r}"
            raise APIError(400, message, param="tool_choice")
        return f"{OPEN}call:{choice.function.name}{{"
    if choice == "required":
        if not names:
            raise APIError(400, "a call is required and there are no tools", param="tool_choice")
        return f"{OPEN}call:"
    return ""


def _turn(message: Message) -> Json:
    role = "system" if message.role == "developer" else message.role
    turn: Json = {"role": role, "content": _text(message)}
    if message.reasoning_content:
        turn["reasoning_content"] = message.reasoning_content
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    return turn


def _text(message: Message) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise APIError(400, f"content of type {part.type!r} is not supported", param="messages")
    return "".join(part.text or "" for part in message.content)


def _call(call: ToolCall) -> Json:
    """Templates write the arguments in the model's own notation, so they take them apart."""
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise APIError(
            400,
            f"the arguments of the call {call.id!r} are not a JSON object",
            param="messages",
        )
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
