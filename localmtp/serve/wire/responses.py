"""Responses in the JSON of OpenAI's API: whole, and in the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from localmtp import __version__
from localmtp.serve.generation.job import Delta, Done
from localmtp.serve.generation.logprobs import TokenLogprob, TokenLogprobs
from localmtp.serve.wire.tools import Call, CallScanner

Json = dict[str, Any]


@dataclass(slots=True)
class Choice:
    """One choice, accumulated from its updates."""

    text: str = ""
    thought: str = ""
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    done: Done | None = None

    def add(self, update: Delta | Done) -> None:
        """Append an update."""
        if isinstance(update, Done):
            self.done = update
        else:
            self.text += update.text
            self.thought += update.thought
            self.logprobs.extend(update.logprobs)


class ResponseWriter(Protocol):
    """Formats the responses of one endpoint."""

    def opening(self, index: int) -> Json | None:
        """First chunk of a choice, if the format has one."""

    def chunk(self, index: int, update: Delta | Done) -> Json:
        """Chunk for one update of a choice."""

    def whole(self, choices: Sequence[Choice]) -> Json:
        """Response for finished choices."""

    def last(self, usage: Json) -> Json:
        """Chunk after all choices, with the usage."""


class _Envelope:
    """Fields around the choices.

    Args:
        prefix: of the response id.
        kind: value of `object`; OpenAI appends `.chunk` for chats only.
        model: name that clients see.
        with_usage: streams that end with the usage have `usage: null` in every other chunk.
    """

    def __init__(self, prefix: str, kind: str, model: str, *, with_usage: bool) -> None:
        self._kind = kind
        self._with_usage = with_usage
        self._fixed = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"localmtp-{__version__}",
        }

    def last(self, usage: Json) -> Json:
        """Chunk after all choices, with the usage."""
        return self._wrap([], chunk=True) | {"usage": usage}

    def _wrap(self, choices: list[Json], *, chunk: bool) -> Json:
        kind = self._kind
        if chunk and kind == "chat.completion":
            kind += ".chunk"
        wrapped = {**self._fixed, "object": kind, "choices": choices}
        if chunk and self._with_usage:
            wrapped["usage"] = None
        return wrapped


class ChatWriter(_Envelope):
    """`/v1/chat/completions`: thoughts as `reasoning_content`, calls as `tool_calls`.

    Args:
        model: name that clients see.
        with_usage: whether streams end with the usage.
        logprobs: whether the request asks for log-probabilities.
        scanners: creates the parser of a choice's calls; None: calls are text.
    """

    def __init__(
        self,
        model: str,
        *,
        with_usage: bool,
        logprobs: bool,
        scanners: Callable[[], CallScanner] | None = None,
    ) -> None:
        super().__init__("chatcmpl", "chat.completion", model, with_usage=with_usage)
        self._logprobs = logprobs
        self._new_scanner = scanners
        self._scanners: dict[int, CallScanner] = {}
        self._called: Counter[int] = Counter()

    def opening(self, index: int) -> Json | None:
        """Chunk with the role."""
        return self._chunk(index, {"role": "assistant", "content": ""}, ())

    def chunk(self, index: int, update: Delta | Done) -> Json:
        """Chunk for one update of a choice."""
        text, calls = self._read(index, update)
        delta: Json = {"content": text} if text else {}
        if calls:
            first = self._called[index] - len(calls)
            numbered = enumerate(calls, start=first)
            delta["tool_calls"] = [{"index": i, **call.as_dict()} for i, call in numbered]
        if isinstance(update, Done):
            return self._chunk(index, delta, (), update)
        if update.thought:
            delta["reasoning_content"] = update.thought
        return self._chunk(index, delta, update.logprobs)

    def whole(self, choices: Sequence[Choice]) -> Json:
        """Response for finished choices."""
        written = []
        for index, choice in enumerate(choices):
            assert choice.done is not None
            text, calls = self._read(index, Delta(choice.text, ""))
            rest, more = self._read(index, choice.done)
            text, calls = text + rest, calls + more
            message: Json = {"role": "assistant", "content": text, "refusal": None}
            if calls:
                message |= {
                    "content": text if text.strip() else None,
                    "tool_calls": [call.as_dict() for call in calls],
                }
            if choice.thought:
                message["reasoning_content"] = choice.thought
            written.append(
                {"index": index, "message": message}
                | {"logprobs": self._scores(choice.logprobs)}
                | self._ending(index, choice.done)
            )
        return self._wrap(written, chunk=False)

    def _read(self, index: int, update: Delta | Done) -> tuple[str, list[Call]]:
        """Text and complete calls of an update."""
        if self._new_scanner is None:
            return ("" if isinstance(update, Done) else update.text), []
        scanner = self._scanners.get(index) or self._scanners.setdefault(index, self._new_scanner())
        text, calls = scanner.rest() if isinstance(update, Done) else scanner.feed(update.text)
        self._called[index] += len(calls)
        return text, calls

    def _ending(self, index: int, done: Done | None) -> Json:
        ending = _ending(done)
        if self._called[index] and ending["finish_reason"] == "stop":
            ending["finish_reason"] = "tool_calls"
        return ending

    def _chunk(
        self, index: int, delta: Json, scores: Sequence[TokenLogprobs], done: Done | None = None
    ) -> Json:
        logprobs = self._scores(scores) if scores else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs}
        return self._wrap([choice | self._ending(index, done)], chunk=True)

    def _scores(self, scores: Sequence[TokenLogprobs]) -> Json | None:
        if not self._logprobs:
            return None
        entries = [
            {**_entry(s.chosen), "top_logprobs": [_entry(candidate) for candidate in s.top]}
            for s in scores
        ]
        return {"content": entries, "refusal": None}


class CompletionWriter(_Envelope):
    """`/v1/completions`: text only; the format has no field for thoughts, so they are dropped."""

    def __init__(self, model: str, *, with_usage: bool, logprobs: bool) -> None:
        super().__init__("cmpl", "text_completion", model, with_usage=with_usage)
        self._logprobs = logprobs
        self._offsets: dict[int, int] = {}

    def opening(self, index: int) -> Json | None:
        """None."""
        return None

    def chunk(self, index: int, update: Delta | Done) -> Json:
        """Chunk for one update of a choice."""
        if isinstance(update, Done):
            choice = {"index": index, "text": "", "logprobs": None} | _ending(update)
        else:
            logprobs = self._scores(index, update.logprobs)
            choice = {"index": index, "text": update.text, "logprobs": logprobs} | _ending(None)
        return self._wrap([choice], chunk=True)

    def whole(self, choices: Sequence[Choice]) -> Json:
        """Response for finished choices."""
        written = [
            {"index": index, "text": choice.text, "logprobs": self._scores(index, choice.logprobs)}
            | _ending(choice.done)
            for index, choice in enumerate(choices)
        ]
        return self._wrap(written, chunk=False)

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


def usage_of(choices: Sequence[Choice], per_prompt: int) -> Json:
    """Token counts of a response; a prompt counts once, however many choices share it."""
    stats = [choice.done.stats for choice in choices if choice.done]
    prompt = sum(s.prompt_tokens for s in stats[::per_prompt])
    completion = sum(s.completion_tokens for s in stats)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": sum(s.reused_tokens for s in stats[::per_prompt])
        },
    }


def _ending(done: Done | None) -> Json:
    """Finish reason, and the statistics of `localmtp run --json`."""
    if done is None:
        return {"finish_reason": None}
    return {"finish_reason": done.reason, "stats": done.stats.as_dict()}


def _text(candidate: TokenLogprob) -> str:
    return candidate.data.decode("utf-8", "replace")


def _entry(candidate: TokenLogprob) -> Json:
    data = candidate.data
    return {"token": _text(candidate), "logprob": candidate.logprob, "bytes": list(data)}
