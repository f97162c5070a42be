"""A conversation with a model that another server runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import PurePath
from time import sleep
from typing import Any

from localmtp.engine.events import Event, Finished, FinishReason
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Counters, Stats
from localmtp.errors import LocalmtpError
from localmtp.remote.dialects import dialect
from localmtp.remote.errors import LostError
from localmtp.remote.metrics import DraftCounts, draft_counts
from localmtp.remote.reading import LONGEST_DRAFT, Reader
from localmtp.remote.server import ServedModel, Server
from localmtp.session import Choices, Message, Role, Session, chat_turns

_LATEST_COUNT_S = 0.05
_LATEST_COUNTS = 10
"""A server may count an answer a moment after it has sent it: how often, and how long, to wait."""

_UNTOLD = "unknown: the server does not say"


class RemoteSession(Session):
    """A conversation over OpenAI's API.

    Args:
        server: the session closes it.
        model: one that it offers.
        choices: over Gemma 4's recommended sampling.
    """

    def __init__(self, server: Server, model: ServedModel, choices: Choices) -> None:
        name, settings = PurePath(model.id).name, choices.settings(SamplingParams())
        super().__init__(name, "", settings, f"at {server.host}")
        self._server = server
        self._model = model
        self._dialect = dialect(model.engine)
        self._counters = Counters(context_size=model.context_size, drafting="")
        self._told: dict[str, Any] = {}

    @property
    def drafting(self) -> str:
        """As far as the server tells; empty before the first answer."""
        return self._counters.drafting

    def complete(self, text: str) -> Iterator[Event]:
        """Go on with `text` as it is, without a chat template.

        Raises:
            LocalmtpError: the text is empty, or the server takes no draft length.
        """
        if not text:
            raise LocalmtpError("the prompt is empty", hint="give some text to go on with")
        return self._generate("/v1/completions", {"prompt": text})

    def cancel(self) -> None:
        """End the running answer at once; it is kept."""
        super().cancel()
        self._server.interrupt()

    def stats(self) -> Stats:
        """The running answer in numbers, or the last one."""
        return replace(self._counters.snapshot(), **self._told)

    def prompt(self) -> str:
        """Not known here.

        Raises:
            LocalmtpError: always.
        """
        raise LocalmtpError("the server makes the prompt; it is not known here")

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        body: dict[str, object] = {"messages": chat_turns(messages, self.settings)}
        if messages[-1].role is Role.MODEL:
            if not (self._dialect.goes_on and messages[-1].text):
                raise LocalmtpError(
                    "this server cannot go on with an answer", hint="let it answer once more"
                )
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.settings.think:
            body["chat_template_kwargs"] = {"enable_thinking": True}
        return self._generate("/v1/chat/completions", body)

    def _generate(self, path: str, body: dict[str, object]) -> Iterator[Event]:
        if self.settings.n_draft is not None and not self._dialect.takes_n_draft:
            raise LocalmtpError(
                f"{self._server.host} decides itself how much it drafts",
                hint="leave the draft length at auto",
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
            # Not OpenAI's: a strict server would refuse what nobody asked for.
            if self._dialect.all_sampling or value != getattr(usual, name):
                request[name] = value
        if sampling.seed is not None:
            request["seed"] = sampling.seed
        if settings.max_tokens:
            request["max_tokens"] = settings.max_tokens
        if settings.n_draft is not None:
            request["n_draft"] = settings.n_draft
        return request | dict(self._dialect.extensions)

    def _answer(self, path: str, body: dict[str, object]) -> Iterator[Event]:
        before = draft_counts(self._server.metrics()) if self._dialect.counts_on_page else None
        self._told = {}
        counters = self._counters = self._new_counters()
        reader = Reader(counters)
        lost: LostError | None = None
        try:
            for chunk in self._server.stream(path, body):
                yield from _understood(reader, chunk)
                if self._cancelled.is_set():
                    break
        except LostError as error:
            ended = reader.finish_reason or self._cancelled.is_set()
            lost = None if ended else error
            if lost and not counters.completion_tokens:
                raise
        yield from reader.rest()
        self._told = reader.told
        counters.drafting = reader.told.get("drafting") or self._count_drafts(reader, before)
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
        counters.prefilled = counters.started  # until the server says how long it took
        return counters

    def _reason(self, reader: Reader, lost: LostError | None) -> FinishReason:
        if lost:
            return FinishReason.LOST
        if self._cancelled.is_set() and not reader.finish_reason:
            return FinishReason.CANCELLED
        return FinishReason.LENGTH if reader.finish_reason == "length" else FinishReason.STOP

    def _count_drafts(self, reader: Reader, before: DraftCounts | None) -> str:
        """Complete the counters; whether there was drafting, in words."""
        counters = self._counters
        if not reader.drafts_told:
            if before is None or not reader.finish_reason:
                return _UNTOLD
            difference = self._difference(before)
            if difference is None:
                return "unknown: others used the server meanwhile"
            counters.drafted_at = [*difference.drafted_at]
            counters.accepted_at = [*difference.accepted_at]
            # Every pass adds a token of the target's own to what it accepts.
            accepted = sum(difference.accepted_at)
            counters.target_passes = max(0, counters.completion_tokens - 1 - accepted)
        return "on" if any(counters.drafted_at) else "off: the server drafted nothing"

    def _difference(self, before: DraftCounts) -> DraftCounts | None:
        """What this answer added to the server's counters; None if others added to them too."""
        for _ in range(_LATEST_COUNTS):
            after = draft_counts(self._server.metrics())
            if after and (after - before).generated == self._counters.completion_tokens:
                return after - before
            sleep(_LATEST_COUNT_S)
        return None


def _understood(reader: Reader, chunk: Mapping[str, Any]) -> list[Event]:
    """The events of a chunk.

    Raises:
        LostError: it is not what this kind of server sends.
    """
    try:
        return list(reader.read(chunk))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise LostError(
            f"the server streams what cannot be understood: {str(chunk)[:80]}"
        ) from error


def open_remote(
    url: str, model: str | None, choices: Choices | None = None, api_key: str = ""
) -> RemoteSession:
    """Begin a conversation with a model of a server.

    Args:
        url: of the server.
        model: its name there; None for the first that it offers.
        choices: over Gemma 4's recommended sampling.
        api_key: empty for none.

    Raises:
        LocalmtpError: nothing answers, the key is refused, it is not an OpenAI-compatible server,
            or it does not offer the model.
    """
    server = Server(url, api_key)
    try:
        return RemoteSession(server, _offered(server, model), choices or Choices())
    except LocalmtpError:
        server.close()
        raise


def _offered(server: Server, wanted: str | None) -> ServedModel:
    models = server.models()
    if not models:
        raise LocalmtpError(f"{server.url} offers no model")
    for model in models:
        # llama.cpp serves paths, Ollama names with a tag.
        if wanted in (None, model.id, PurePath(model.id).name, model.id.removesuffix(":latest")):
            return model
    names = [PurePath(model.id).name for model in models]
    near = get_close_matches(wanted or "", names, n=3) or names[:3]
    raise LocalmtpError(f"{server.url} has no model {wanted!r}", hint=f"it has: {', '.join(near)}")
