"""Conversations with a pair that is loaded in a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Lock, Thread
from time import monotonic

from localmtp.engine.events import Event, Finished, FinishReason, Generated
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.isolation.messages import (
    AnswerEvents,
    AnswerStarted,
    Cancel,
    CompleteRequest,
    Downloading,
    Loading,
    MeasureMedia,
    MediaName,
    OpenRequest,
    OpenStep,
    ReplyRequest,
    RequestFailed,
    Resolving,
    SessionOpened,
    SessionStatus,
    StoreMedia,
    UpdateSettings,
)
from localmtp.isolation.process import ModelProcess, ProcessLostError
from localmtp.media import Media
from localmtp.session import Message, Session, Settings, media_of, render, shown
from localmtp.session.templates import TemplateChoice

UNRESPONSIVE_S = 10.0
"""Seconds after `cancel` during which an answer is given time to end; a pass may take that long."""

POLL_INTERVAL_S = 0.1
"""Seconds between calls of `on_step` while a model loads; the callback may raise to abort."""


class IsolatedSession(Session):
    """A conversation with a pair in a child process.

    The messages are in this process, the KV cache and its checkpoints in the child.

    Args:
        process: with the model; the session ends it.
        opened: its description of the session.
    """

    def __init__(self, process: ModelProcess, opened: SessionOpened) -> None:
        super().__init__(opened.name, opened.drafter_name, opened.settings)
        self._process = process
        self._number = 0
        """Number of the last answer."""
        self._stored: set[str] = set()
        """Keys of the media that the child has."""
        self._measuring = Lock()
        self._measured = 0
        """Number of the last request to measure media."""
        self._answering = False
        self._cancelled_at = 0.0
        process.status = self._status = opened.status
        self.device, self.memory = opened.device, opened.memory
        self.placement = opened.placement
        self._templates = TemplateChoice(opened.template, opened.special_tokens)
        self.hint = self._templates.hint(opened.settings.template, opened.name)

    def update_settings(self, settings: Settings) -> None:
        """Replaces the settings, here and in the child, from the next answer on."""
        super().update_settings(settings)
        # The child reports back whether they leave drafting on.
        self._process.send(UpdateSettings(settings))

    @property
    def is_lost(self) -> bool:
        """True once the child process is gone."""
        return self._process.is_over

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line about each failure so far that ended no answer."""
        return self._latest().warnings

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template describes tools."""
        template = self._templates.current(self.settings.template)
        return template is not None and template.knows_tools

    @property
    def template(self) -> str:
        """The chat template in use, for users."""
        return self._templates.described(self.settings.template)

    @property
    def drafting(self) -> str:
        """`on`, or `off: REASON`."""
        return self.stats().drafting

    @property
    def plain_tokens_per_s(self) -> float:
        """Tokens per second of passes without a draft, which automatic pacing measures."""
        return self._latest().plain_tokens_per_s

    def media_tokens(self, media: Media) -> int | None:
        """Returns the number of tokens of an image or sound; see `Session.media_tokens`."""
        with self._measuring:
            self._measured += 1
            self._process.send(MeasureMedia(self._measured, media))
            while (measured := self._process.receive_measured()).number != self._measured:
                pass
        if failed := measured.failure:
            raise LocalmtpError(failed.message, hint=failed.hint)
        return measured.tokens

    def complete(self, text: str) -> Iterator[Event]:
        """Continues a raw `text`: BOS, no chat template, no history.

        Raises:
            LocalmtpError: as `ask`.
        """
        return self._start(lambda number: CompleteRequest(number, text, self.settings))

    def cancel(self) -> None:
        """Ends the last requested answer after its current pass; its text is retained.

        If the child has not reacted for `UNRESPONSIVE_S` seconds, another call kills it.
        """
        now = monotonic()
        if not self._cancelled.is_set():
            self._cancelled_at = now
        super().cancel()
        if self._answering and now - self._cancelled_at > UNRESPONSIVE_S:
            self._process.kill_unresponsive()
        else:
            self._process.send(Cancel(self._number))

    def abandon(self) -> None:
        """Ends the answer and the child without waiting for them."""
        self.cancel()
        Thread(target=self._process.end, daemon=True).start()

    def stats(self) -> Stats:
        """Returns the statistics of the last answer, as last reported by the child."""
        return self._latest().stats

    def prompt(self) -> str:
        """Returns the rendered prompt that would be sent to answer the conversation now.

        Raises:
            LocalmtpError: the chat template rejects the
                conversation.
        """
        template = self._templates.current(self.settings.template)
        prompt = render(template, self.name, self.messages, self.settings, self.tools)
        return shown(prompt, media_of(self.messages))

    def close(self) -> None:
        """Ends the child, after it has saved its pacing data."""
        super().cancel()
        self._process.send(Cancel(self._number))
        self._process.end()

    def _latest(self) -> SessionStatus:
        return self._process.status or self._status

    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        for media in (media for message in messages for media in message.media):
            if media.key not in self._stored:
                self._process.send(StoreMedia(media))
                self._stored.add(media.key)
        bare = tuple(replace(message, media=()) for message in messages)
        names = tuple(
            tuple(MediaName(media.key, media.name) for media in message.media)
            for message in messages
        )
        return self._start(
            lambda number: ReplyRequest(number, bare, names, self.settings, tuple(self.tools)),
            messages,
        )

    def _start(
        self,
        request: Callable[[int], ReplyRequest | CompleteRequest],
        messages: Sequence[Message] = (),
    ) -> Iterator[Event]:
        self._cancelled.clear()
        self._number += 1
        self._answering = True
        self._process.send(request(self._number))
        try:
            started = self._receive(self._number)
        except LocalmtpError:
            self._answering = False
            raise
        assert isinstance(started, AnswerStarted)
        self._process.status = started.status
        for index in started.dropped:
            messages[index].dropped = True
        return self._events(self._number)

    def _events(self, number: int) -> Iterator[Event]:
        """Yields the events of an answer; if the child is lost, `Finished` before the error."""
        generating = ended = False
        try:
            while not ended:
                response = self._receive(number)
                assert isinstance(response, AnswerEvents)
                for event in response.events:
                    generating = generating or isinstance(event, Generated)
                    ended = isinstance(event, Finished)
                    yield event
        except ProcessLostError:
            if generating:
                yield Finished(FinishReason.LOST, self.stats())
            raise
        finally:
            if number == self._number:
                self._answering = False
            if not ended:
                self._process.send(Cancel(number))

    def _receive(self, number: int) -> AnswerStarted | AnswerEvents:
        """Returns the next response about an answer; skips those about earlier ones.

        Raises:
            LocalmtpError: the answer failed in the child.
            ProcessLostError: the child is gone.
        """
        while True:
            response = self._process.receive()
            if isinstance(response, RequestFailed) and response.number == number:
                raise LocalmtpError(response.message, hint=response.hint)
            if isinstance(response, AnswerStarted | AnswerEvents) and response.number == number:
                return response


def open_isolated(request: OpenRequest, on_step: Callable[[OpenStep], None]) -> IsolatedSession:
    """Resolves, downloads if necessary, and loads a pair in a child process.

    Args:
        request: the model and its options.
        on_step: called with the current step, at least every `POLL_INTERVAL_S` seconds; an
            exception that it raises ends the child immediately and propagates.

    Raises:
        LocalmtpError: see `resolve` and `open_session`; or the child ended.
    """
    process = ModelProcess()
    step: OpenStep = Resolving(request.model or "the model")
    try:
        process.send(request)
        while True:
            on_step(step)
            match process.receive(POLL_INTERVAL_S):
                case Resolving() | Downloading() | Loading() as step:
                    pass
                case SessionOpened() as opened:
                    return IsolatedSession(process, opened)
                case RequestFailed() as failed:
                    raise LocalmtpError(failed.message, hint=failed.hint)
    except BaseException:
        process.end(0)
        raise
