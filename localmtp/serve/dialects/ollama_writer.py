"""Writes responses of Ollama's API: JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from localmtp.engine.text.tool_calls import ToolCall
from localmtp.serve.dialects.reading import Json
from localmtp.serve.errors import APIError
from localmtp.serve.generation.job import Delta, Done
from localmtp.serve.wire.writers import Choice, Usage


class OllamaWriter:
    """Formats one response.

    Args:
        model: name that the client used.
        chat: whether the text is a message (`/api/chat`) or a field (`/api/generate`).
    """

    media_type = "application/x-ndjson"

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model = model
        self._chat = chat
        self._done: Done | None = None

    def begin(self, choices: int) -> Iterator[str]:
        """Nothing."""
        yield from ()

    def update(self, index: int, update: Delta | Done) -> Iterator[str]:
        """A line with text, thoughts or calls."""
        if isinstance(update, Done):
            self._done = update
        else:
            yield _line(self._part(update.text, update.thought, update.calls))

    def end(self, usage: Usage) -> Iterator[str]:
        """The last line: the reason, counts and durations."""
        yield _line(self._part("", "", ()) | self._ending(usage))

    def failed(self, error: APIError) -> Iterator[str]:
        """The error."""
        yield _line({"error": error.message})

    def whole(self, choices: Sequence[Choice], usage: Usage) -> Json:
        """The finished response."""
        (choice,) = choices
        self._done = choice.done
        return self._part(choice.text, choice.thought, choice.calls) | self._ending(usage)

    def _part(self, text: str, thought: str, calls: Sequence[ToolCall]) -> Json:
        part: Json = {"model": self._model, "created_at": _now()}
        thinking = {"thinking": thought} if thought else {}
        if not self._chat:
            return part | {"response": text, **thinking, "done": False}
        message: Json = {"role": "assistant", "content": text, **thinking}
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return part | {"message": message, "done": False}

    def _ending(self, usage: Usage) -> Json:
        assert self._done is not None
        stats = self._done.stats
        return {
            "done": True,
            "done_reason": self._done.reason,
            "total_duration": _nanoseconds(stats.ttft_s + stats.decode_s),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt,
            "prompt_eval_duration": _nanoseconds(stats.prefill_s),
            "eval_count": usage.completion,
            "eval_duration": _nanoseconds(stats.decode_s),
            "stats": stats.as_dict(),
        }


def loaded(model: str, *, chat: bool) -> Json:
    """Response to a request without a prompt, which asks Ollama to load the model."""
    empty: Json = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    return {"model": model, "created_at": _now(), **empty, "done": True, "done_reason": "load"}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _line(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"
