"""The process with the model: does what it is asked, one after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from localmtp.engine.events import Event, Finished, Generated
from localmtp.errors import LocalmtpError
from localmtp.isolation.messages import (
    Begun,
    Cancel,
    Change,
    Close,
    Complete,
    Downloading,
    Failed,
    Loading,
    Open,
    Opened,
    Passed,
    Reply,
    Report,
    Request,
    Status,
)
from localmtp.portability import inherited
from localmtp.session import Role

if TYPE_CHECKING:
    from localmtp.models.store.download import Progress
    from localmtp.portability import Channel
    from localmtp.session.local import LocalSession

EVERY_S = 1 / 20
"""Passes are told together, and so is progress: more often than is drawn."""

SHARE = 0.005
"""Telling waits until what it took is this share of the time since: the model waits for it."""


class Child:
    """One session, and the connection to whoever asks for its answers.

    Args:
        connection: its other end is held by the parent alone: where it ends, so does this process.
    """

    def __init__(self, connection: Channel) -> None:
        self._connection = connection
        self._requests: SimpleQueue[Request] = SimpleQueue()
        self._session: LocalSession | None = None
        self._cancelled = 0

    def run(self) -> None:
        """Open a session and let it work until it is closed."""
        try:
            wanted: Open = self._connection.recv()
            Thread(target=self._listen, daemon=True).start()
            self._session = session = self._open(wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to hear it
            self._tell(_failure(0, error))
            return
        while not isinstance(request := self._requests.get(), Close):
            match request:
                case Change():
                    session.update_settings(request.settings)
                    self._tell(_status(session))
                case Reply() | Complete():
                    try:
                        self._answer(session, request)
                    except Exception as error:  # noqa: BLE001 - as above
                        self._tell(_failure(request.number, error))
        session.close()

    def _listen(self) -> None:
        """Sort requests; in a thread of its own, so that cancelling is heard at once."""
        try:
            while True:
                request: Request = self._connection.recv()
                if not isinstance(request, Cancel):
                    self._requests.put(request)
                    continue
                self._cancelled = request.number
                if self._session:
                    self._session.cancel()
        except (EOFError, OSError):
            # However the parent ended: nobody is left to work for, or to tell.
            os._exit(0)

    def _open(self, wanted: Open) -> LocalSession:
        from dataclasses import replace

        from localmtp.models import resolve
        from localmtp.session.local import open_session

        told = 0.0

        def downloading(progress: Progress) -> None:
            nonlocal told
            if monotonic() - told > EVERY_S:
                told = monotonic()
                done, total = progress.done_in_all, progress.total_in_all
                self._tell(Downloading(progress.file, done, total))

        def loading(part: float) -> bool:
            nonlocal told
            if monotonic() - told > EVERY_S:
                told = monotonic()
                self._tell(Loading(files.name, part))
            return True

        files = resolve(
            wanted.model, drafter=wanted.drafter, offline=wanted.offline, progress=downloading
        )
        self._tell(Loading(files.name, 0.0))
        choices, options = wanted.prepare()
        session = open_session(files, choices, replace(options, progress=loading))
        template, bos = session.template_source
        self._tell(
            Opened(
                session.name,
                session.drafter_name,
                session.settings,
                session.device,
                session.memory,
                session.placement,
                template,
                bos,
                _status(session),
            )
        )
        return session

    def _answer(self, session: LocalSession, request: Reply | Complete) -> None:
        session.update_settings(request.settings)
        dropped: tuple[int, ...] = ()
        if isinstance(request, Complete):
            events = session.complete(request.text)
        else:
            session.messages = messages = list(request.messages)
            goes_on = bool(messages) and messages[-1].role is Role.MODEL
            events = session.resume() if goes_on else session.answer()
            dropped = tuple(n for n, message in enumerate(messages) if message.dropped)
        if self._cancelled == request.number:
            # Heard while the answer was being prepared.
            session.cancel()
        self._tell(Begun(request.number, dropped, _status(session)))
        self._follow(session, request.number, events)

    def _follow(self, session: LocalSession, number: int, events: Iterator[Event]) -> None:
        """Tell events together, and at once the first token, all before it, and the end."""
        gathered: list[Event] = []
        begun, due = False, 0.0
        for event in events:
            gathered.append(event)
            now = monotonic()
            if now >= due or not begun or isinstance(event, Finished):
                self._tell(Passed(number, tuple(gathered), _status(session)))
                gathered.clear()
                begun = begun or isinstance(event, Generated)
                due = now + max(EVERY_S, (monotonic() - now) / SHARE)

    def _tell(self, report: Report) -> None:
        try:
            self._connection.send(report)
        except OSError:
            os._exit(0)


def _status(session: LocalSession) -> Status:
    return Status(session.stats(), session.plain_tokens_per_s)


def _failure(number: int, error: Exception) -> Failed:
    if isinstance(error, LocalmtpError):
        return Failed(number, error.message, error.hint)
    if isinstance(error, MemoryError):
        return Failed(number, "not enough memory", "a smaller model, quantization or context")
    return Failed(number, f"{type(error).__name__}: {error}", "please report this")


def main(channel: int) -> None:
    """Run the child's side.

    Args:
        channel: number of the inherited channel to the parent.
    """
    # The parent decides; it closes the connection when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Child(inherited(channel)).run()
    # Nothing is left to do: threads that hang in a connection are not waited for.
    os._exit(0)
