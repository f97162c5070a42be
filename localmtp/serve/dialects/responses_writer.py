"""Writes responses of OpenAI's Responses API."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from localmtp.engine.text.tool_calls import ToolCall
from localmtp.serve.dialects.reading import Json
from localmtp.serve.dialects.responses_requests import ResponsesRequest
from localmtp.serve.errors import APIError
from localmtp.serve.generation.job import Delta, Done
from localmtp.serve.wire.writers import EVENT_STREAM, Choice, Usage, sse
from localmtp.unicode import replace_surrogates

_MESSAGE, _REASONING = "message", "reasoning"
_PARTS = {_MESSAGE: "output_text", _REASONING: "reasoning_text"}


class ResponsesWriter:
    """Formats one response as a list of items: reasoning, messages and function calls.

    Args:
        body: the request, parts of which a response repeats.
        model: name that clients see.
        on_done: called with the finished response.
    """

    media_type = EVENT_STREAM

    def __init__(self, body: ResponsesRequest, model: str, on_done: Callable[[Json], None]) -> None:
        self._on_done = on_done
        self._namespaces = body.namespaces()
        self._custom = body.custom_tools()
        summary = body.reasoning.summary if body.reasoning else None
        self._summarizes = summary is not None
        """Whether thoughts are written as summaries too: some clients show nothing else."""
        self._sequence = 0
        self._items: list[Json] = []
        self._open: Json | None = None
        """The item that text is appended to; it is the last of the items."""
        self._done: Done | None = None
        self._response: Json = {
            "id": _new_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": model,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": summary},
            "store": body.store is not False,
            "temperature": body.temperature,
            "text": {"format": (body.text and body.text.format) or {"type": "text"}},
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            "metadata": body.metadata or {},
        }
        self._response = _encodable(self._response)

    def begin(self, choices: int) -> Iterator[str]:
        """The response without output."""
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)

    def update(self, index: int, update: Delta | Done) -> Iterator[str]:
        """Events of items, in the order of the text."""
        if isinstance(update, Done):
            self._done = update
            yield from self._close()
            return
        for kind, text in ((_REASONING, update.thought), (_MESSAGE, update.text)):
            if text:
                yield from self._append(kind, text)
        for call in update.calls:
            yield from self._close()
            custom = call.name in self._custom
            yield from self._add_custom(call) if custom else self._add_call(call)

    def end(self, usage: Usage) -> Iterator[str]:
        """The finished response."""
        response = self._finish(usage)
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, error: APIError) -> Iterator[str]:
        """The response with an error."""
        failure = {"code": error.code or "server_error", "message": error.message}
        response = self._response | {"status": "failed", "error": failure, "output": self._items}
        yield self._event("response.failed", response=response)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> Json:
        """The finished response."""
        (choice,) = choices
        assert choice.done is not None
        delta = Delta(choice.text, choice.thought, tuple(choice.calls))
        for update in (delta, choice.done):
            for _ in self.update(0, update):
                pass
        return self._finish(usage)

    def _finish(self, usage: Usage) -> Json:
        assert self._done is not None
        cut = self._done.reason == "length"
        self._response |= {
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": self._items,
            "usage": {
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.completion,
                "output_tokens_details": {"reasoning_tokens": usage.thought},
                "total_tokens": usage.prompt + usage.completion,
            },
            "stats": self._done.stats.as_dict(),
        }
        if self._done.unparsed_calls:
            self._response["stats"]["unparsed_tool_calls"] = self._done.unparsed_calls
        self._on_done(self._response)
        return self._response

    def _append(self, kind: str, text: str) -> Iterator[str]:
        if self._open is None or self._open["type"] != kind:
            yield from self._close()
            yield from self._open_item(kind)
        assert self._open is not None
        self._open["content"][0]["text"] += text
        logprobs: Json = {"logprobs": []} if kind == _MESSAGE else {}
        yield self._part_event(f"response.{_PARTS[kind]}.delta", delta=text, **logprobs)
        for summary in self._open.get("summary", ()):
            summary["text"] += text
            yield self._summary_event("text.delta", delta=text)

    def _open_item(self, kind: str) -> Iterator[str]:
        part: Json = {"type": _PARTS[kind], "text": ""}
        if kind == _MESSAGE:
            part |= {"annotations": [], "logprobs": []}
            item: Json = {"id": _new_id("msg"), "type": kind, "role": "assistant"}
        else:
            item = {"id": _new_id("rs"), "type": kind, "summary": []}
        item |= {"status": "in_progress", "content": []}
        yield self._add(item)
        item["content"] = [part]
        self._open = item
        yield self._part_event("response.content_part.added", part=part)
        if self._summarizes and kind == _REASONING:
            item["summary"] = [{"type": "summary_text", "text": ""}]
            yield self._summary_event("part.added", part=item["summary"][0])

    def _close(self) -> Iterator[str]:
        item = self._open
        if item is None:
            return
        part = item["content"][0]
        logprobs: Json = {"logprobs": []} if item["type"] == _MESSAGE else {}
        yield self._part_event(f"response.{part['type']}.done", text=part["text"], **logprobs)
        yield self._part_event("response.content_part.done", part=part)
        for summary in item.get("summary", ()):
            yield self._summary_event("text.done", text=summary["text"])
            yield self._summary_event("part.done", part=summary)
        self._open = None
        yield self._complete(item)

    def _add_call(self, call: ToolCall) -> Iterator[str]:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        item: Json = {"id": _new_id("fc"), "type": "function_call", "status": "in_progress"}
        item |= {"call_id": call.id, "name": call.name, "arguments": ""}
        if namespace := self._namespaces.get(call.name):
            item["namespace"] = namespace
        yield self._add(item)
        item["arguments"] = arguments
        at = {"item_id": item["id"], "output_index": len(self._items) - 1}
        yield self._event("response.function_call_arguments.delta", delta=arguments, **at)
        done = {"arguments": arguments, "name": call.name}
        yield self._event("response.function_call_arguments.done", **done, **at)
        yield self._complete(item)

    def _add_custom(self, call: ToolCall) -> Iterator[str]:
        """A call of a tool that takes a text."""
        given = call.arguments.get("input")
        text = given if isinstance(given, str) else json.dumps(call.arguments, ensure_ascii=False)
        item: Json = {"id": _new_id("ctc"), "type": "custom_tool_call", "status": "in_progress"}
        item |= {"call_id": call.id, "name": call.name, "input": ""}
        yield self._add(item)
        item["input"] = text
        at = {"item_id": item["id"], "output_index": len(self._items) - 1}
        yield self._event("response.custom_tool_call_input.delta", delta=text, **at)
        yield self._event("response.custom_tool_call_input.done", input=text, **at)
        yield self._complete(item)

    def _add(self, item: Json) -> str:
        self._items.append(item)
        index = len(self._items) - 1
        return self._event("response.output_item.added", output_index=index, item=item)

    def _complete(self, item: Json) -> str:
        item["status"] = "completed"
        index = len(self._items) - 1
        return self._event("response.output_item.done", output_index=index, item=item)

    def _summary_event(self, kind: str, **fields: Any) -> str:
        assert self._open is not None
        at = {"item_id": self._open["id"], "output_index": len(self._items) - 1}
        return self._event(f"response.reasoning_summary_{kind}", **at, summary_index=0, **fields)

    def _part_event(self, kind: str, **fields: Any) -> str:
        assert self._open is not None
        at = {"item_id": self._open["id"], "output_index": len(self._items) - 1}
        return self._event(kind, **at, content_index=0, **fields)

    def _event(self, kind: str, **fields: Any) -> str:
        self._sequence += 1
        return sse({"type": kind, "sequence_number": self._sequence - 1, **fields}, kind)


def _encodable(response: Json) -> Json:
    """Repeat parts of a request only in valid Unicode and without NaN.

    Raises:
        APIError: a number is not finite.
    """
    try:
        text = json.dumps(response, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise APIError(400, "numbers must be finite") from error
    cleaned: Json = json.loads(replace_surrogates(text))
    return cleaned


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
