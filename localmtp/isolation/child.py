"""The process with the model: handles requests one after the other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING

from localmtp.engine.events import Event, Finished, Generated
from localmtp.errors import LocalmtpError
from localmtp.isolation.messages import (
    AnswerEvents,
    AnswerStarted,
    Cancel,
    Close,
    CompleteRequest,
    Downloading,
    Loading,
    MeasureMedia,
    MediaMeasured,
    OpenRequest,
    ReplyRequest,
    Request,
    RequestFailed,
    Response,
    SessionOpened,
    SessionStatus,
    StoreMedia,
    UpdateSettings,
)
from localmtp.portability import inherited
from localmtp.session import Role

if TYPE_CHECKING:
    from localmtp.media import Media
    from localmtp.models.store.download import TransferProgress
    from localmtp.portability import Channel
    from localmtp.session.local import LocalSession

SEND_INTERVAL_S = 1 / 20
"""Events and progress are sent in batches, a little more often than the chat draws."""

SEND_SHARE = 0.005
"""Largest share of the time that is spent on sending: the model waits meanwhile."""


class Child:
    """A session, driven by requests that arrive on a connection.

    Args:
        connection: to the parent, which alone holds the other end; the process exits when it
            closes.
    """

    def __init__(self, connection: Channel) -> None:
        self._connection = connection
        self._requests: SimpleQueue[Request] = SimpleQueue()
        self._session: LocalSession | None = None
        self._media: dict[str, Media] = {}
        """By their keys."""
        self._is_open = threading.Event()
        self._sending = Lock()
        self._cancelled = 0
        """Number of the last answer that was cancelled."""

    def run(self) -> None:
        """Opens a session and handles requests until `Close`."""
        try:
            to_open: OpenRequest = self._connection.recv()
            Thread(target=self._listen, daemon=True).start()
            self._session = session = self._open(to_open)
            self._is_open.set()
        except Exception as error:  # noqa: BLE001 - every failure is reported to the parent
            self._send(_failure(0, error))
            return
        while not isinstance(request := self._requests.get(), Close):
            match request:
                case UpdateSettings():
                    session.update_settings(request.settings)
                    self._send(_status(session))
                case ReplyRequest() | CompleteRequest():
                    try:
                        self._answer(session, request)
                    except Exception as error:  # noqa: BLE001 - as above
                        self._send(_failure(request.number, error))
        session.close()

    def _listen(self) -> None:
        """Queues requests; runs in its own thread, so that `Cancel` takes effect immediately."""
        try:
            while True:
                request: Request = self._connection.recv()
                match request:
                    case Cancel():
                        self._cancelled = request.number
                        if self._session:
                            self._session.cancel()
                    case StoreMedia():
                        self._media[request.media.key] = request.media
                    case MeasureMedia():
                        Thread(target=self._measure, args=(request,), daemon=True).start()
                    case _:
                        self._requests.put(request)
        except Exception:  # noqa: BLE001 - the parent is gone, or sends what cannot be read
            os._exit(0)

    def _open(self, request: OpenRequest) -> LocalSession:
        from localmtp.models import resolve
        from localmtp.session.local import open_session

        sent = 0.0

        def downloading(progress: TransferProgress) -> None:
            nonlocal sent
            if monotonic() - sent > SEND_INTERVAL_S:
                sent = monotonic()
                done, total = progress.done_in_all, progress.total_in_all
                self._send(Downloading(progress.file, done, total))

        def loading(part: float) -> bool:
            nonlocal sent
            if monotonic() - sent > SEND_INTERVAL_S:
                sent = monotonic()
                self._send(Loading(files.name, part))
            return True

        files = resolve(
            request.model,
            drafter=request.drafter,
            projector=request.projector,
            offline=request.offline,
            progress=downloading,
        )
        self._send(Loading(files.name, 0.0))
        choices, options = request.prepare()
        session = open_session(files, choices, replace(options, progress=loading))
        self._send(_description(session))
        return session

    def _answer(self, session: LocalSession, request: ReplyRequest | CompleteRequest) -> None:
        session.update_settings(request.settings)
        dropped: tuple[int, ...] = ()
        if isinstance(request, CompleteRequest):
            events = session.complete(request.text)
        else:
            session.tools = request.tools
            session.messages = messages = list(request.messages)
            for message, names in zip(messages, request.media, strict=True):
                message.media = tuple(replace(self._media[key], name=name) for key, name in names)
            continues = bool(messages) and messages[-1].role is Role.MODEL
            events = session.resume() if continues else session.answer()
            dropped = tuple(n for n, message in enumerate(messages) if message.dropped)
        if self._cancelled == request.number:
            # Cancelled while the prompt was being prepared.
            session.cancel()
        self._send(AnswerStarted(request.number, dropped, _status(session)))
        self._forward(session, request.number, events)

    def _measure(self, request: MeasureMedia) -> None:
        """Counts the tokens of an image or sound; the first one may load the projector."""
        number, tokens, failure = request.number, 0, None
        # The parent may ask as soon as it was notified, which is a moment earlier.
        self._is_open.wait()
        assert self._session
        try:
            tokens = self._session.media_tokens(request.media)
        except Exception as error:  # noqa: BLE001 - every failure is reported to the parent
            failure = _failure(number, error)
        self._send(MediaMeasured(number, tokens, failure))

    def _forward(self, session: LocalSession, number: int, events: Iterator[Event]) -> None:
        """Sends events in batches; those up to the first token and the last one immediately."""
        batch: list[Event] = []
        generating, due = False, 0.0
        for event in events:
            batch.append(event)
            now = monotonic()
            if now >= due or not generating or isinstance(event, Finished):
                self._send(AnswerEvents(number, tuple(batch), _status(session)))
                batch.clear()
                generating = generating or isinstance(event, Generated)
                due = now + max(SEND_INTERVAL_S, (monotonic() - now) / SEND_SHARE)

    def _send(self, response: Response) -> None:
        try:
            with self._sending:
                self._connection.send(response)
        except OSError:
            os._exit(0)


def _status(session: LocalSession) -> SessionStatus:
    return SessionStatus(session.stats(), session.plain_tokens_per_s, session.warnings)


def _description(session: LocalSession) -> SessionOpened:
    template, special_tokens = session.template_source
    return SessionOpened(
        session.name,
        session.drafter_name,
        session.settings,
        session.device,
        session.memory,
        session.placement,
        template,
        special_tokens,
        _status(session),
    )


def _failure(number: int, error: Exception) -> RequestFailed:
    if isinstance(error, LocalmtpError):
        return RequestFailed(number, error.message, error.hint)
    if isinstance(error, MemoryError):
        hint = "use a smaller model, quantization or context"
        return RequestFailed(number, "not enough memory", hint)
    reason = " ".join(str(error).split())
    return RequestFailed(number, f"{type(error).__name__}: {reason}", "please report this")


def main(channel: int) -> None:
    """Runs the child.

    Args:
        channel: number of the inherited channel to the parent.
    """
    # Ctrl-C reaches the whole process group; the parent decides and closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Child(inherited(channel)).run()
    # Threads that wait for a network connection must not keep the process alive.
    os._exit(0)
