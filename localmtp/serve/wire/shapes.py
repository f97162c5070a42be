"""Answers in the JSON of the OpenAI API: whole, and in the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from localmtp import __version__
from localmtp.serve.generation.tasks import Choice, Ended, Said, Scored
from localmtp.serve.wire.tools import Call, CallScanner

Json = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """One choice as it grows."""

    text: str = ""
    thought: str = ""
    scores: list[Scored] = field(default_factory=list)
    ended: Ended | None = None

    def add(self, update: Said | Ended) -> None:
        """Take in what came."""
        if isinstance(update, Ended):
            self.ended = update
        else:
            self.text += update.text
            self.thought += update.thought
            self.scores.extend(update.scores)


class Shape(Protocol):
    """How one kind of completion is written down."""

    def opening(self, index: int) -> Json | None:
        """The chunk that begins a choice, if there is one."""

    def chunk(self, index: int, update: Said | Ended) -> Json:
        """What one update adds to a choice."""

    def whole(self, answers: Sequence[Answer]) -> Json:
        """All choices, each of them ended."""

    def last(self, usage: Json) -> Json:
        """The chunk after all choices: what they took."""


class _Envelope:
    """What surrounds the choices.

    Args:
        prefix: of the identifier.
        kind: the value of `object`; `.chunk` is added to chat chunks by OpenAI, to others not.
        model: as shown to clients.
        with_usage: a stream that ends with usage carries `usage: null` until then.
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
        """The chunk after all choices: what they took."""
        return self._wrap([], chunk=True) | {"usage": usage}

    def _wrap(self, choices: list[Json], *, chunk: bool) -> Json:
        kind = self._kind
        if chunk and kind == "chat.completion":
            kind += ".chunk"
        wrapped = {**self._fixed, "object": kind, "choices": choices}
        if chunk and self._with_usage:
            wrapped["usage"] = None
        return wrapped


class ChatShape(_Envelope):
    """`/v1/chat/completions`; thoughts go to `reasoning_content`, calls to `tool_calls`.

    Args:
        model: as shown to clients.
        with_usage: whether a stream ends with usage.
        logprobs: whether they were asked for.
        scanners: makes the reader of a choice's calls; None: calls are text.
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
        """The chunk that says who speaks."""
        return self._chunk(index, {"role": "assistant", "content": ""}, ())

    def chunk(self, index: int, update: Said | Ended) -> Json:
        """What one update adds to a choice."""
        text, calls = self._read(index, update)
        delta: Json = {"content": text} if text else {}
        if calls:
            first = self._called[index] - len(calls)
            numbered = enumerate(calls, start=first)
            delta["tool_calls"] = [{"index": i, **call.as_dict()} for i, call in numbered]
        if isinstance(update, Ended):
            return self._chunk(index, delta, (), update)
        if update.thought:
            delta["reasoning_content"] = update.thought
        return self._chunk(index, delta, update.scores)

    def whole(self, answers: Sequence[Answer]) -> Json:
        """All choices, each of them ended."""
        choices = []
        for index, answer in enumerate(answers):
            assert answer.ended is not None
            text, calls = self._read(index, Said(answer.text, ""))
            rest, more = self._read(index, answer.ended)
            text, calls = text + rest, calls + more
            message: Json = {"role": "assistant", "content": text, "refusal": None}
            if calls:
                message |= {
                    "content": text if text.strip() else None,
                    "tool_calls": [call.as_dict() for call in calls],
                }
            if answer.thought:
                message["reasoning_content"] = answer.thought
            choices.append(
                {"index": index, "message": message}
                | {"logprobs": self._scores(answer.scores)}
                | self._ending(index, answer.ended)
            )
        return self._wrap(choices, chunk=False)

    def _read(self, index: int, update: Said | Ended) -> tuple[str, list[Call]]:
        """Text and calls of an update."""
        if self._new_scanner is None:
            return ("" if isinstance(update, Ended) else update.text), []
        scanner = self._scanners.get(index) or self._scanners.setdefault(index, self._new_scanner())
        text, calls = scanner.rest() if isinstance(update, Ended) else scanner.feed(update.text)
        self._called[index] += len(calls)
        return text, calls

    def _ending(self, index: int, ended: Ended | None) -> Json:
        ending = _ending(ended)
        if self._called[index] and ending["finish_reason"] == "stop":
            ending["finish_reason"] = "tool_calls"
        return ending

    def _chunk(
        self, index: int, delta: Json, scores: Sequence[Scored], ended: Ended | None = None
    ) -> Json:
        logprobs = self._scores(scores) if scores else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs}
        return self._wrap([choice | self._ending(index, ended)], chunk=True)

    def _scores(self, scores: Sequence[Scored]) -> Json | None:
        if not self._logprobs:
            return None
        entries = [
            {**_entry(s.chosen), "top_logprobs": [_entry(choice) for choice in s.top]}
            for s in scores
        ]
        return {"content": entries, "refusal": None}


class TextShape(_Envelope):
    """`/v1/completions`; thoughts have no place in it and stay in the text's stead unsaid."""

    def __init__(self, model: str, *, with_usage: bool, logprobs: bool) -> None:
        super().__init__("cmpl", "text_completion", model, with_usage=with_usage)
        self._logprobs = logprobs
        self._offsets: dict[int, int] = {}

    def opening(self, index: int) -> Json | None:
        """Nothing."""
        return None

    def chunk(self, index: int, update: Said | Ended) -> Json:
        """What one update adds to a choice."""
        if isinstance(update, Ended):
            choice = {"index": index, "text": "", "logprobs": None} | _ending(update)
        else:
            logprobs = self._scores(index, update.scores)
            choice = {"index": index, "text": update.text, "logprobs": logprobs} | _ending(None)
        return self._wrap([choice], chunk=True)

    def whole(self, answers: Sequence[Answer]) -> Json:
        """All choices, each of them ended."""
        choices = [
            {"index": index, "text": answer.text, "logprobs": self._scores(index, answer.scores)}
            | _ending(answer.ended)
            for index, answer in enumerate(answers)
        ]
        return self._wrap(choices, chunk=False)

    def _scores(self, index: int, scores: Sequence[Scored]) -> Json | None:
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


def usage_of(answers: Sequence[Answer], per_prompt: int) -> Json:
    """Tokens of a request; a prompt counts once, however many choices were made from it."""
    stats = [answer.ended.stats for answer in answers if answer.ended]
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


def _ending(ended: Ended | None) -> Json:
    """The reason, and the statistics of `localmtp run --json` beside it."""
    if ended is None:
        return {"finish_reason": None}
    return {"finish_reason": ended.reason, "stats": ended.stats.as_dict()}


def _text(choice: Choice) -> str:
    return choice.data.decode("utf-8", "replace")


def _entry(choice: Choice) -> Json:
    return {"token": _text(choice), "logprob": choice.logprob, "bytes": list(choice.data)}
