"""Writers of responses: completions of OpenAI's API, whole and streamed."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from localmtp import __version__
from localmtp.engine.text.tool_calls import ToolCall
from localmtp.serve.errors import APIError
from localmtp.serve.generation.job import Delta, Done
from localmtp.serve.generation.logprobs import TokenLogprob, TokenLogprobs

Json = dict[str, Any]

EVENT_STREAM = "text/event-stream"


@dataclass(slots=True)
class Choice:
    """One choice, accumulated from its updates."""

    text: str = ""
    thought: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    done: Done | None = None

    def add(self, update: Delta | Done) -> None:
        """Append an update."""
        if isinstance(update, Done):
            self.done = update
        else:
            self.text += update.text
            self.thought += update.thought
            self.calls.extend(update.calls)
            self.logprobs.extend(update.logprobs)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a response; a prompt counts once, however many choices share it."""

    prompt: int
    cached: int
    """Prompt tokens reused from the KV cache."""
    completion: int
    thought: int = 0
    """Tokens of thoughts, which are part of the completion."""

    @classmethod
    def of(cls, choices: Sequence[Choice], per_prompt: int) -> Usage:
        """Add up the statistics of finished choices, `per_prompt` of which share a prompt."""
        stats = [choice.done.stats for choice in choices if choice.done]
        return cls(
            sum(s.prompt_tokens for s in stats[::per_prompt]),
            sum(s.reused_tokens for s in stats[::per_prompt]),
            sum(s.completion_tokens for s in stats),
            sum(s.thought_tokens for s in stats),
        )


class ResponseWriter(Protocol):
    """Formats the response to one request; events are complete server-sent events or lines."""

    media_type: str
    """Of a stream."""

    def begin(self, choices: int) -> Iterator[str]:
        """Events at the start of a stream."""

    def update(self, index: int, update: Delta | Done) -> Iterator[str]:
        """Events for one update of a choice."""

    def end(self, usage: Usage) -> Iterator[str]:
        """Events after all choices."""

    def failed(self, error: APIError) -> Iterator[str]:
        """Events for an error inside the stream."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> Json:
        """Response for finished choices."""


def sse(data: Json, event: str = "") -> str:
    """A server-sent event."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event}\ndata: {text}\n\n" if event else f"data: {text}\n\n"


class _CompletionsWriter:
    """Fields around the choices, and the stream, of both kinds of completions.

    Args:
        prefix: of the response id.
        kind: value of `object`; OpenAI appends `.chunk` for chats only.
        model: name that clients see.
        with_usage: streams that end with the usage have `usage: null` in every other chunk.
    """

    media_type = EVENT_STREAM

    def __init__(self, prefix: str, kind: str, model: str, *, with_usage: bool) -> None:
        self._kind = kind
        self._with_usage = with_usage
        self._fixed = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"localmtp-{__version__}",
        }

    def begin(self, choices: int) -> Iterator[str]:
        """No events."""
        yield from ()

    def update(self, index: int, update: Delta | Done) -> Iterator[str]:
        """One chunk."""
        yield sse(self.chunk(index, update))

    def end(self, usage: Usage) -> Iterator[str]:
        """A chunk with the usage, if requested, and the end marker."""
        if self._with_usage:
            yield sse(self._wrap([], chunk=True) | {"usage": _usage(usage)})
        yield "data: [DONE]\n\n"

    def failed(self, error: APIError) -> Iterator[str]:
        """The error; streams that fail have no end marker."""
        yield sse(error.body())

    def chunk(self, index: int, update: Delta | Done) -> Json:
        """Chunk for one update of a choice."""
        raise NotImplementedError

    def _wrap(self, choices: list[Json], *, chunk: bool) -> Json:
        kind = self._kind
        if chunk and kind == "chat.completion":
            kind += ".chunk"
        wrapped = {**self._fixed, "object": kind, "choices": choices}
        if chunk and self._with_usage:
            wrapped["usage"] = None
        return wrapped


class ChatWriter(_CompletionsWriter):
    """`/v1/chat/completions`: thoughts as `reasoning_content`, calls as `tool_calls`.

    Args:
        model: name that clients see.
        with_usage: whether streams end with the usage.
        logprobs: whether the request asks for log-probabilities.
    """

    def __init__(self, model: str, *, with_usage: bool, logprobs: bool) -> None:
        super().__init__("chatcmpl", "chat.completion", model, with_usage=with_usage)
        self._logprobs = logprobs
        self._calls: Counter[int] = Counter()

    def begin(self, choices: int) -> Iterator[str]:
        """A chunk with the role for each choice."""
        for index in range(choices):
            yield sse(self._chunk(index, {"role": "assistant", "content": ""}, ()))

    def chunk(self, index: int, update: Delta | Done) -> Json:
        """Chunk for one update of a choice."""
        if isinstance(update, Done):
            return self._chunk(index, {}, (), update)
        delta: Json = {}
        if update.thought:
            delta["reasoning_content"] = update.thought
        if update.text:
            delta["content"] = update.text
        if update.calls:
            numbered = enumerate(update.calls, start=self._calls[index])
            delta["tool_calls"] = [{"index": i, **_call(call)} for i, call in numbered]
            self._calls[index] += len(update.calls)
        return self._chunk(index, delta, update.logprobs)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> Json:
        """Response for finished choices."""
        written = []
        for index, choice in enumerate(choices):
            message: Json = {"role": "assistant", "content": choice.text, "refusal": None}
            if choice.calls:
                message |= {
                    "content": choice.text if choice.text.strip() else None,
                    "tool_calls": [_call(call) for call in choice.calls],
                }
            if choice.thought:
                message["reasoning_content"] = choice.thought
            written.append(
                {"index": index, "message": message}
                | {"logprobs": self._scores(choice.logprobs)}
                | _ending(choice.done)
            )
        return self._wrap(written, chunk=False) | {"usage": _usage(usage)}

    def _chunk(
        self, index: int, delta: Json, scores: Sequence[TokenLogprobs], done: Done | None = None
    ) -> Json:
        logprobs = self._scores(scores) if scores else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs}
        return self._wrap([choice | _ending(done)], chunk=True)

    def _scores(self, scores: Sequence[TokenLogprobs]) -> Json | None:
        if not self._logprobs:
            return None
        entries = [
            {**_entry(s.chosen), "top_logprobs": [_entry(candidate) for candidate in s.top]}
            for s in scores
        ]
        return {"content": entries, "refusal": None}


class CompletionWriter(_CompletionsWriter):
    """`/v1/completions`: text only; the format has no field for thoughts, so they are dropped."""

    def __init__(self, model: str, *, with_usage: bool, logprobs: bool) -> None:
        super().__init__("cmpl", "text_completion", model, with_usage=with_usage)
        self._logprobs = logprobs
        self._offsets: dict[int, int] = {}

    def chunk(self, index: int, update: Delta | Done) -> Json:
        """Chunk for one update of a choice."""
        if isinstance(update, Done):
            choice = {"index": index, "text": "", "logprobs": None} | _ending(update)
        else:
            logprobs = self._scores(index, update.logprobs)
            choice = {"index": index, "text": update.text, "logprobs": logprobs} | _ending(None)
        return self._wrap([choice], chunk=True)

    def whole(self, choices: Sequence[Choice], usage: Usage) -> Json:
        """Response for finished choices."""
        written = [
            {"index": index, "text": choice.text, "logprobs": self._scores(index, choice.logprobs)}
            | _ending(choice.done)
            for index, choice in enumerate(choices)
        ]
        return self._wrap(written, chunk=False) | {"usage": _usage(usage)}

    def _scores(self, index: int, scores: Sequence[TokenLogprobs]) -> Json | None:
        if not self._logprobs:
            return None
        tokens = [_text(s.chosen) for s in scores]
        offsets = []
        at = self._offsets.get(index, 0)
        for token in tokens:
            offsets.append(at)
            at += len(token)
        self._offsets[index] = at
        return {
            "tokens": tokens,
            "token_logprobs": [s.chosen.logprob for s in scores],
            "top_logprobs": [{_text(c): c.logprob for c in s.top} for s in scores],
            "text_offset": offsets,
        }


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.thought},
    }


def _ending(done: Done | None) -> Json:
    """Finish reason, and the statistics of `localmtp run --json`."""
    if done is None:
        return {"finish_reason": None}
    stats = done.stats.as_dict()
    if done.unparsed_calls:
        stats["unparsed_tool_calls"] = done.unparsed_calls
    reason = "tool_calls" if done.calls and done.reason == "stop" else done.reason
    return {"finish_reason": reason, "stats": stats}


def _call(call: ToolCall) -> Json:
    """A tool call in OpenAI's format: the arguments are JSON in a string."""
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _text(candidate: TokenLogprob) -> str:
    return candidate.data.decode("utf-8", "replace")


def _entry(candidate: TokenLogprob) -> Json:
    data = candidate.data
    return {"token": _text(candidate), "logprob": candidate.logprob, "bytes": list(data)}
