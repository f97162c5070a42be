"""Conversations with a pair that is loaded in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Thread

from localmtp.engine.events import Event, Finished, FinishReason, Generated
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.isolation.messages import (
    Begun,
    Cancel,
    Change,
    Complete,
    Downloading,
    Failed,
    Loading,
    Open,
    Opened,
    Passed,
    Reply,
    Starting,
    Status,
    Step,
)
from localmtp.isolation.process import LostError, ModelProcess
from localmtp.session import Message, Session, Settings, render

NOTICE_S = 0.1
"""How soon it is noticed that a model on its way is not wanted any more."""


class ApartSession(Session):
    """A conversation with a pair in another process.

    The messages are here; what was prefilled, and can be gone back to, is there.

    Args:
        process: the session ends it.
        opened: what it told of its model.
    """

    def __init__(self, process: ModelProcess, opened: Opened) -> None:
        self._process = process
        self._number = 0
        process.status = self._status = opened.status
        super().__init__(opened.name, opened.drafter_name, opened.settings)
        self.device, self.memory = opened.device, opened.memory
        self.placement = opened.placement
        self._template, self._bos = opened.template, opened.bos

    def update_settings(self, settings: Settings) -> None:
        """Replaces the settings, here and in the child, from the next answer on."""
        super().update_settings(settings)
        # The child reports back whether they leave drafting on.
        self._process.send(Change(settings))

    @property
    def is_lost(self) -> bool:
        """Whether the process with the model is gone."""
        return self._process.is_over

    @property
    def drafting(self) -> str:
        """`on`, or `off: REASON`."""
        return self.stats().drafting

    @property
    def plain_tokens_per_s(self) -> float:
        """From passes without a draft, which automatic pacing makes now and then."""
        return self._latest().plain_tokens_per_s

    def complete(self, text: str) -> Iterator[Event]:
        """Go on with `text` as it is: BOS, no chat template, no history.

        Raises:
            LocalmtpError: as `ask`.
        """
        return self._begin(lambda number: Complete(number, text, self.settings))

    def cancel(self) -> None:
        """End the answer last asked for, begun or not, after its current pass; it is kept."""
        super().cancel()
        self._process.send(Cancel(self._number))

    def abandon(self) -> None:
        """End the answer and the process, without waiting for either."""
        self.cancel()
        Thread(target=self._process.end, daemon=True).start()

    def stats(self) -> Stats:
        """The running answer in numbers, or the last one, as they were last told."""
        return self._latest().stats

    def prompt(self) -> str:
        """What the model would be given to answer the conversation as it stands.

        Raises:
            LocalmtpError: the model has no chat template, or it refuses the conversation.
        """
        from localmtp.engine.text.chat_template import ChatTemplate

        template = ChatTemplate(self._template, bos=self._bos) if self._template else None
        return render(template, self.name, self.messages, self.settings)

    def close(self) -> None:
        """Let the other side keep what was learned, and end it."""
        super().cancel()
        self._process.send(Cancel(self._number))
        self._process.end()

    def _latest(self) -> Status:
        return self._process.status or self._status

    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        return self._begin(lambda number: Reply(number, tuple(messages), self.settings), messages)

    def _begin(
        self, request: Callable[[int], Reply | Complete], messages: Sequence[Message] = ()
    ) -> Iterator[Event]:
        self._cancelled.clear()
        self._number += 1
        self._process.send(request(self._number))
        begun = self._hear(self._number)
        assert isinstance(begun, Begun)
        self._process.status = begun.status
        for index in begun.dropped:
            messages[index].dropped = True
        return self._events(self._number)

    def _events(self, number: int) -> Iterator[Event]:
        """The events as they come, and at the loss of the process one that ends the answer."""
        said = ended = False
        try:
            while not ended:
                report = self._hear(number)
                assert isinstance(report, Passed)
                for event in report.events:
                    said = said or isinstance(event, Generated)
                    ended = isinstance(event, Finished)
                    yield event
        except LostError:
            if said:
                yield Finished(FinishReason.LOST, self.stats())
            raise
        finally:
            if not ended:
                self._process.send(Cancel(number))

    def _hear(self, number: int) -> Begun | Passed:
        """The next report on one answer; what is left of others was not wanted.

        Raises:
            LocalmtpError: it failed there.
            LostError: the process is gone.
        """
        while True:
            report = self._process.receive()
            if isinstance(report, Failed) and report.number == number:
                raise LocalmtpError(report.message, hint=report.hint)
            if isinstance(report, Begun | Passed) and report.number == number:
                return report


def open_apart(wanted: Open, tell: Callable[[Step], None]) -> ApartSession:
    """Find, download if need be, and load a pair in a process of its own.

    Args:
        wanted: what, and how.
        tell: called with every step, and again and again while one lasts; what it raises gives
            everything up at once.

    Raises:
        LocalmtpError: as `resolve` and `open_session`; or the process ended.
    """
    process = ModelProcess()
    step: Step = Starting(wanted.model or "the model")
    try:
        process.send(wanted)
        while True:
            tell(step)
            match process.receive(NOTICE_S):
                case Starting() | Downloading() | Loading() as step:
                    pass
                case Opened() as opened:
                    return ApartSession(process, opened)
                case Failed() as failed:
                    raise LocalmtpError(failed.message, hint=failed.hint)
    except BaseException:
        process.end(0)
        raise
