"""Tools in conversations: calls read from answers, and steps between question and answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localmtp.engine.events import Channel, Edge, Piece
from localmtp.engine.text.tool_calls import ToolCall, parse_calls, readable
from localmtp.unicode import replace_surrogates

Function = Mapping[str, Any]
"""A function as chat templates expect it: `type`, and `function` with a name and a schema."""


@dataclass(frozen=True, slots=True)
class ToolStep:
    """One round of tool calls within an answer."""

    text: str
    """Text before the calls."""
    thought: str
    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]
    """[len(calls)]"""


class CallReader:
    """Separates the tool calls of an answer from its text.

    Args:
        functions: that the model may call.
    """

    def __init__(self, functions: Sequence[Function]) -> None:
        self.calls: list[ToolCall] = []
        """Complete calls."""
        inner = [function["function"] for function in functions]
        self._schemas = {each["name"]: each.get("parameters") for each in inner}
        self._open: list[str] | None = None
        self._marked = True

    def read(self, piece: Piece) -> str:
        """Returns the text that a piece outside of thoughts adds to the answer."""
        if piece.channel is not Channel.TOOL_CALL:
            return self.end() + piece.text
        text = self.end() if piece.edge is not Edge.NONE else ""
        if piece.edge is not Edge.CLOSE:
            if self._open is None:
                # Only a call without a marker opens with text.
                self._open, self._marked = [], not piece.text
            self._open.append(piece.text)
        return text

    def end(self) -> str:
        """Ends the open call, if any; returns a call that cannot be read as text."""
        if self._open is None:
            return ""
        text, self._open = "".join(self._open), None
        calls = parse_calls(text, self._schemas, marked=self._marked)
        self.calls += calls
        return "" if calls else readable(text)


def step_turns(steps: Sequence[ToolStep]) -> Iterator[dict[str, Any]]:
    """Yields steps as messages of OpenAI's API, with arguments as mappings."""
    for step in steps:
        turn: dict[str, Any] = {"role": "assistant", "content": replace_surrogates(step.text)}
        if step.thought:
            turn["reasoning_content"] = replace_surrogates(step.thought)
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in step.calls
        ]
        yield turn
        for call, result in zip(step.calls, step.results, strict=True):
            content = replace_surrogates(result)
            yield {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content}
