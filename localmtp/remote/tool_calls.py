"""Tool calls in OpenAI's format: collected from streams, and sent back with their results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localmtp.engine.text.tool_calls import ToolCall
from localmtp.remote.json_input import mapping, text

_MOST_CALLS = 128
"""Calls of one answer; a server that streams more is not followed further."""


@dataclass(slots=True)
class _Streamed:
    id: str
    name: str
    arguments: str | Mapping[str, Any] = ""


class StreamedCalls:
    """Collects the tool calls of one answer from its chunks."""

    def __init__(self) -> None:
        self._calls: list[_Streamed] = []
        self._by_index: dict[object, _Streamed] = {}

    def read(self, choice: Mapping[str, Any]) -> bool:
        """Adds the parts of a chunk; returns whether there were any.

        Raises:
            ValueError: they are malformed.
        """
        parts = mapping(choice.get("delta")).get("tool_calls") or ()
        for part in parts:
            self._add(mapping(part))
        return bool(parts)

    def complete(self) -> tuple[list[ToolCall], str]:
        """Returns the calls, and as text those whose arguments are no JSON object."""
        calls: list[ToolCall] = []
        unread = ""
        for call in self._calls:
            arguments = _arguments(call.arguments)
            if arguments is None:
                unread += f"{call.name}({call.arguments})"
            elif call.id:
                calls.append(ToolCall(call.name, arguments, call.id))
            else:
                calls.append(ToolCall(call.name, arguments))
        return calls, unread

    def _add(self, part: Mapping[str, Any]) -> None:
        function = mapping(part.get("function"))
        identity, name = text(part.get("id")), text(function.get("name"))
        index = part.get("index")
        call = self._by_index.get(index)
        # Some servers number all calls 0, but give each an id; others number none.
        is_another = name and (identity != call.id if call and identity else index is None)
        if call is None or is_another:
            if len(self._calls) >= _MOST_CALLS:
                raise ValueError(f"more than {_MOST_CALLS} tool calls")
            call = self._by_index[index] = _Streamed(identity, name)
            self._calls.append(call)
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            call.arguments = arguments
        elif isinstance(call.arguments, str):
            call.arguments += text(arguments)


def _arguments(written: str | Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns arguments as an object; None if they are none."""
    if isinstance(written, str):
        try:
            written = json.loads(written or "{}", strict=False)
        except (ValueError, RecursionError):
            return None
    return dict(written) if isinstance(written, Mapping) else None


def with_written_arguments(
    turns: Sequence[Mapping[str, Any]], *, thoughts: bool
) -> list[dict[str, Any]]:
    """Returns messages whose calls have their arguments as JSON text.

    Args:
        turns: see `chat_turns`.
        thoughts: whether the server takes `reasoning_content`; left out otherwise.
    """
    return [_written(turn, thoughts=thoughts) for turn in turns]


def _written(turn: Mapping[str, Any], *, thoughts: bool) -> dict[str, Any]:
    if "tool_calls" not in turn:
        return dict(turn)
    calls = [
        {**call, "function": {**call["function"], "arguments": _as_json(call["function"])}}
        for call in turn["tool_calls"]
    ]
    written = {**turn, "content": turn["content"] or None, "tool_calls": calls}
    if not thoughts:
        written.pop("reasoning_content", None)
    return written


def _as_json(function: Mapping[str, Any]) -> str:
    return json.dumps(function["arguments"], ensure_ascii=False)
