"""Writes responses of Anthropic's Messages API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from localmtp.engine.text.tool_calls import ToolCall
from localmtp.serve.dialects.reading import Json
from localmtp.serve.errors import APIError
from localmtp.serve.generation.job import Delta, Done
from localmtp.serve.wire.writers import EVENT_STREAM, Choice, Usage, sse

_TEXT_FIELDS = {"thinking": "thinking", "text": "text"}


class AnthropicWriter:
    """Formats one message as a list of blocks: thinking, text and tool use.

    Args:
        model: name that clients see.
        prompt_tokens: of the request, reported at the start of a stream.
    """

    media_type = EVENT_STREAM

    def __init__(self, model: str, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._blocks = 0
        self._open = ""
        """Type of the block that text is appended to; empty for none."""
        self._done: Done | None = None
        self._message: Json = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def begin(self, choices: int) -> Iterator[str]:
        """The message without content."""
        usage = _usage(Usage(self._prompt_tokens, 0, 0))
        yield _event("message_start", message=self._message | {"usage": usage})

    def update(self, index: int, update: Delta | Done) -> Iterator[str]:
        """Events of blocks, in the order of the text."""
        if isinstance(update, Done):
            self._done = update
            yield from self._close()
            return
        for kind, text in (("thinking", update.thought), ("text", update.text)):
            if text:
                yield from self._append(kind, text)
        for call in update.calls:
            yield from self._close()
            block = _tool_use(call) | {"input": {}}
            yield self._block_event("content_block_start", content_block=block)
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            delta = {"type": "input_json_delta", "partial_json": arguments}
            yield self._block_event("content_block_delta", delta=delta)
            self._open = "tool_use"
            yield from self._close()

    def end(self, usage: Usage) -> Iterator[str]:
        """The stop reason and the usage."""
        yield _event("message_delta", delta=self._ending(), usage=_usage(usage))
        yield _event("message_stop")

    def failed(self, error: APIError) -> Iterator[str]:
        """The error."""
        yield sse(error.anthropic_body(), "error")

    def whole(self, choices: Sequence[Choice], usage: Usage) -> Json:
        """The finished message."""
        (choice,) = choices
        assert choice.done is not None
        self._done = choice.done
        content: list[Json] = []
        if choice.thought:
            content.append({"type": "thinking", "thinking": choice.thought, "signature": ""})
        if choice.text.strip() or not (choice.calls or choice.thought):
            content.append({"type": "text", "text": choice.text})
        content += [_tool_use(call) for call in choice.calls]
        stats = choice.done.stats.as_dict()
        if choice.done.unparsed_calls:
            stats["unparsed_tool_calls"] = choice.done.unparsed_calls
        ending = {"content": content, "usage": _usage(usage), "stats": stats}
        return self._message | self._ending() | ending

    def _ending(self) -> Json:
        assert self._done is not None
        reason, stop = "end_turn", self._done.stop_string
        if self._done.reason == "length":
            reason = "max_tokens"
        elif stop is not None:
            reason = "stop_sequence"
        elif self._done.calls:
            reason = "tool_use"
        return {"stop_reason": reason, "stop_sequence": stop}

    def _append(self, kind: str, text: str) -> Iterator[str]:
        field = _TEXT_FIELDS[kind]
        if self._open != kind:
            yield from self._close()
            self._open = kind
            block = {"type": kind, field: ""} | ({"signature": ""} if kind == "thinking" else {})
            yield self._block_event("content_block_start", content_block=block)
        yield self._block_event("content_block_delta", delta={"type": f"{kind}_delta", field: text})

    def _close(self) -> Iterator[str]:
        if self._open:
            yield self._block_event("content_block_stop")
            self._blocks += 1
        self._open = ""

    def _block_event(self, kind: str, **fields: Any) -> str:
        return _event(kind, index=self._blocks, **fields)


def _event(kind: str, **fields: Any) -> str:
    return sse({"type": kind, **fields}, kind)


def _tool_use(call: ToolCall) -> Json:
    call_id = call.id.replace("call_", "toolu_", 1)
    return {"type": "tool_use", "id": call_id, "name": call.name, "input": call.arguments}


def _usage(usage: Usage) -> Json:
    """Anthropic counts prompt tokens from the cache separately."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion,
    }
