"""A session with a model on another server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import PurePath
from time import sleep
from typing import Any

from localmtp.engine.events import Event, Finished, FinishReason, Generated, Origin, Piece
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Counters, Stats
from localmtp.engine.text.tool_calls import ToolCall
from localmtp.errors import LocalmtpError
from localmtp.remote.dialects import dialect
from localmtp.remote.errors import LostError
from localmtp.remote.media import with_media
from localmtp.remote.metrics import DraftCounts, draft_counts
from localmtp.remote.reading import LONGEST_DRAFT, UNKNOWN_TOKEN, ChunkReader
from localmtp.remote.server import RemoteModel, RemoteServer
from localmtp.remote.tool_calls import with_written_arguments
from localmtp.session import Choices, Message, Role, Session, chat_turns, media_of
from localmtp.session.tools import CallReader
from localmtp.unicode import replace_surrogates

_POLL_S = 0.05
_POLLS = 10
"""Servers may update their counters shortly after the answer: interval in seconds, and attempts."""

_SENT_IF_CHANGED = (
    *("presence_penalty", "frequency_penalty", "repeat_penalty"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
)
"""Fields of sampling: strict servers reject those that they do not know."""

_UNKNOWN = "unknown: the server does not report it"


class RemoteSession(Session):
    """A conversation over OpenAI's API.

    Args:
        server: closed with the session.
        model: a model of that server.
        choices: override Gemma 4's recommended sampling.
    """

    def __init__(self, server: RemoteServer, model: RemoteModel, choices: Choices) -> None:
        name, settings = PurePath(model.id).name, choices.settings(SamplingParams())
        super().__init__(name, "", settings, f"at {server.host}")
        self._server = server
        self._model = model
        self._dialect = dialect(model.engine)
        self._counters = Counters(context_size=model.context_size, drafting="")
        self._reported: dict[str, Any] = {}
        self._calls: tuple[ToolCall, ...] = ()

    @property
    def drafting(self) -> str:
        """State reported by the server; empty before the first answer."""
        return self._counters.drafting

    @cached_property
    def knows_tools(self) -> bool | None:
        """Whether the chat template describes tools; None if the server does not say. Blocking."""
        return self._server.knows_tools()

    def complete(self, text: str) -> Iterator[Event]:
        """Continue raw text, without a chat template.

        Raises:
            LocalmtpError: the text is empty, or the server does not accept a draft length.
        """
        if not text:
            raise LocalmtpError("the prompt is empty", hint="pass some text to continue")
        body: dict[str, object] = {"prompt": replace_surrogates(text)}
        if not self.settings.max_tokens:
            body |= self._dialect.no_limit
        return self._generate("/v1/completions", body)

    def cancel(self) -> None:
        """Abort the running answer immediately; the partial answer is retained."""
        super().cancel()
        self._server.interrupt()

    def stats(self) -> Stats:
        """Statistics of the running answer, or of the last one."""
        return replace(self._counters.snapshot(), **self._reported)

    def prompt(self) -> str:
        """Unavailable: the server renders the prompt.

        Raises:
            LocalmtpError: always.
        """
        raise LocalmtpError("the prompt is not available: the server renders it")

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        turns, media = chat_turns(messages, self.settings), media_of(messages)
        if media:
            self._require({each.kind for each in media})
            turns = with_media(turns, media, unchanged=self._model.engine == "localmtp")
        turns = with_written_arguments(turns, thoughts=self._dialect.takes_thoughts)
        body: dict[str, object] = {"messages": turns}
        if self.tools:
            body["tools"] = list(self.tools)
        last = messages[-1]
        after_calls = bool(last.steps) and not last.text
        if last.role is Role.MODEL and not after_calls:
            if not (self._dialect.continues and last.text):
                raise LocalmtpError(
                    "this server cannot continue an answer", hint="regenerate it instead"
                )
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.settings.think:
            body["chat_template_kwargs"] = {"enable_thinking": self.settings.thinks}
        if self.settings.think_budget:
            # llama.cpp's and our name of the field.
            body["thinking_budget_tokens"] = self.settings.think_budget
        return self._generate("/v1/chat/completions", body)

    def _calls_of(self, reader: CallReader) -> tuple[ToolCall, ...]:
        return self._calls

    def _require(self, kinds: set[str]) -> None:
        """Refuse media that the server's model does not read, as far as the server says.

        Raises:
            LocalmtpError: it does not read them.
        """
        reads = self._model.media
        if reads is None:
            reads = self._server.modalities()
        missing = kinds - set(reads) if reads is not None else set()
        if missing:
            names = {"image": "images", "audio": "sound"}
            what = " and ".join(names[kind] for kind in sorted(missing, reverse=True))
            raise LocalmtpError(
                f"{self.name} at {self._server.host} reads no {what}",
                hint="start the server with the model's projector, or choose another model",
            )

    def _generate(self, path: str, body: dict[str, object]) -> Iterator[Event]:
        if self.settings.n_draft is not None and not self._dialect.takes_n_draft:
            raise LocalmtpError(
                f"{self._server.host} does not accept a draft length",
                hint="leave it at `auto`",
            )
        self._cancelled.clear()
        return self._answer(path, self._request() | body)

    def _request(self) -> dict[str, object]:
        settings, sampling, usual = self.settings, self.settings.sampling, SamplingParams()
        request: dict[str, object] = {
            "model": self._model.id,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        for name in ("top_k", "min_p"):
            value = getattr(sampling, name)
            # Not OpenAI's: strict servers reject unknown fields, so send only changed values.
            if self._dialect.all_sampling or value != getattr(usual, name):
                request[name] = value
        for name in _SENT_IF_CHANGED:
            if (value := getattr(sampling, name)) != getattr(usual, name):
                request[name] = value
        if self._dialect.takes_on_repeat and sampling.on_repeat is not usual.on_repeat:
            request["on_repeat"] = str(sampling.repeats)
        if sampling.seed is not None:
            request["seed"] = sampling.seed
        if settings.max_tokens:
            request["max_tokens"] = settings.max_tokens
        if settings.n_draft is not None:
            request["n_draft"] = settings.n_draft
        return request | dict(self._dialect.extensions)

    def _answer(self, path: str, body: dict[str, object]) -> Iterator[Event]:
        page = self._server.metrics() if self._dialect.has_draft_metrics else ""
        self._reported, self._calls = {}, ()
        counters = self._counters = self._new_counters()
        reader = ChunkReader(counters)
        lost: LostError | None = None
        try:
            for chunk in self._server.stream(path, body):
                yield from _events_of(reader, chunk)
                if self._cancelled.is_set():
                    break
        except LostError as error:
            ended = reader.finish_reason or self._cancelled.is_set()
            lost = None if ended else error
            if lost and not counters.completion_tokens:
                raise
        yield from reader.rest()
        calls, unread = reader.calls.complete()
        if unread:
            yield Generated((Piece(UNKNOWN_TOKEN, unread, Origin.UNKNOWN),))
        self._calls = tuple(calls)
        self._reported = reader.reported
        counters.drafting = reader.reported.get("drafting") or self._count_drafts(reader, page)
        yield Finished(self._reason(reader, lost), self.stats())
        if lost:
            raise lost

    def _new_counters(self) -> Counters:
        counters = Counters(
            context_size=self._model.context_size,
            drafting=self._counters.drafting,
            drafted_at=[0] * LONGEST_DRAFT,
            accepted_at=[0] * LONGEST_DRAFT,
        )
        counters.prefilled = counters.started  # until the server reports the prefill time
        return counters

    def _reason(self, reader: ChunkReader, lost: LostError | None) -> FinishReason:
        if lost:
            return FinishReason.LOST
        if self._cancelled.is_set() and not reader.finish_reason:
            return FinishReason.CANCELLED
        return FinishReason.LENGTH if reader.finish_reason == "length" else FinishReason.STOP

    def _count_drafts(self, reader: ChunkReader, page: str) -> str:
        """Complete the counters; returns the human-readable drafting state.

        Args:
            reader: of the answer.
            page: Prometheus metrics before the answer; empty for a server without them.
        """
        counters = self._counters
        if not reader.reports_drafts:
            if not page or not reader.finish_reason:
                return _UNKNOWN
            before = draft_counts(page)
            if before is None:
                return "off: the server has no drafter"
            difference = self._difference(before)
            if difference is None:
                return "unknown: other clients used the server meanwhile"
            counters.drafted_at = [*difference.drafted_at]
            counters.accepted_at = [*difference.accepted_at]
            # Every pass adds one token of the target to the accepted ones; the last draft may
            # overshoot the end of the answer.
            alone = counters.completion_tokens - 1 - sum(difference.accepted_at)
            counters.target_passes = max(difference.drafts, alone)
        return "on" if any(counters.drafted_at) else "off: the server drafted nothing"

    def _difference(self, before: DraftCounts) -> DraftCounts | None:
        """Difference of the counters over this answer; None if other clients contributed."""
        for _ in range(_POLLS):
            after = draft_counts(self._server.metrics())
            if after and (after - before).generated == self._counters.completion_tokens:
                return after - before
            sleep(_POLL_S)
        return None


def _events_of(reader: ChunkReader, chunk: Mapping[str, Any]) -> list[Event]:
    """Events of a chunk.

    Raises:
        LostError: the chunk is malformed.
    """
    try:
        return list(reader.read(chunk))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise LostError(f"the server sent a malformed chunk: {str(chunk)[:80]}") from error


def open_remote(
    url: str, model: str | None, choices: Choices | None = None, api_key: str = ""
) -> RemoteSession:
    """Start a session with a model of a server.

    Args:
        url: of the server.
        model: name on the server; None for the first in its list.
        choices: override Gemma 4's recommended sampling.
        api_key: empty for none.

    Raises:
        LocalmtpError: there is no response, the key is rejected, it is not an OpenAI-compatible
            server, or it does not have the model.
    """
    server = RemoteServer(url, api_key)
    try:
        return RemoteSession(server, _find(server, model), choices or Choices())
    except LocalmtpError:
        server.close()
        raise


def _find(server: RemoteServer, name: str | None) -> RemoteModel:
    models = server.models()
    if not models:
        raise LocalmtpError(f"{server.url} has no models")
    for model in models:
        # llama.cpp lists paths, Ollama names with a tag.
        if name in (None, model.id, PurePath(model.id).name, model.id.removesuffix(":latest")):
            return model
    names = [PurePath(model.id).name for model in models]
    near = get_close_matches(name or "", names, n=3) or names[:3]
    raise LocalmtpError(f"{server.url} has no model {name!r}", hint=f"it has: {', '.join(near)}")
