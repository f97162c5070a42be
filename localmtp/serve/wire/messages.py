"""Messages and tools of a chat request, as chat templates expect them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from localmtp.serve.errors import APIError
from localmtp.serve.wire.requests import ChatMessage, ChatRequest, ToolCall, ToolChoice
from localmtp.serve.wire.tools import OPEN

Json = dict[str, Any]


def turns(messages: Sequence[ChatMessage]) -> list[Json]:
    """Convert the messages.

    Raises:
        APIError: a message has content other than text, or a call whose arguments are not JSON.
    """
    return [_turn(message) for message in messages]


def tools(body: ChatRequest) -> list[Json]:
    """Functions for the template; empty for `tool_choice: none`."""
    if body.tool_choice == "none":
        return []
    return [tool.model_dump(exclude_none=True) for tool in body.tools or ()]


def forced_call(body: ChatRequest) -> str:
    """Start of the answer that forces a call; empty if none is forced.

    Raises:
        APIError: the function is not among the tools.
    """
    names = [tool.function.name for tool in body.tools or ()]
    choice = body.tool_choice
    if isinstance(choice, ToolChoice):
        if choice.function.name not in names:
            message = f"no tool is named {choice.function.name!r}"
            raise APIError(400, message, param="tool_choice")
        return f"{OPEN}call:{choice.function.name}{{"
    if choice == "required":
        if not names:
            raise APIError(
                400, "tool_choice is 'required', but there are no tools", param="tool_choice"
            )
        return f"{OPEN}call:"
    return ""


def _turn(message: ChatMessage) -> Json:
    role = "system" if message.role == "developer" else message.role
    turn: Json = {"role": role, "content": _text(message)}
    if message.reasoning_content:
        turn["reasoning_content"] = message.reasoning_content
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    return turn


def _text(message: ChatMessage) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise APIError(400, f"content of type {part.type!r} is not supported", param="messages")
    return "".join(part.text or "" for part in message.content)


def _call(call: ToolCall) -> Json:
    """Parse the arguments: templates render them in the model's own notation."""
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise APIError(
            400,
            f"arguments of the call {call.id!r} are not a JSON object",
            param="messages",
        )
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
