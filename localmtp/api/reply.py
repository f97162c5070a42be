"""A reply: its events while it is generated, its text and statistics afterwards."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Self

from localmtp.api.turns import Turns
from localmtp.engine.events import (
    Channel,
    Event,
    Finished,
    FinishReason,
    Generated,
    Piece,
)
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.session import Session


class Reply(Iterator[Event]):
    """A reply of a `LanguageModel`; generation starts with the first event that is read.

    Iterating yields `Prefilled` events while the prompt is processed, one `Generated` per pass of
    the target, and `Finished` at the end. `text`, `thought`, `token_ids`, `stats` and
    `finish_reason` read the rest first.

    One reply of a model is generated at a time; replies of other threads wait for it. So a reply
    that is not read to its end must be closed: use it as a context manager, or call `close`.

    A reply is read by one thread. `cancel` and `close` may be called from any thread.
    """

    def __init__(
        self, session: Session, turns: Turns, start: Callable[[], Iterator[Event]]
    ) -> None:
        self._run = _ReplyRun(session, turns, start, weakref.ref(self))
        # Not a method of this object: a cycle would keep the model busy after `break`.
        self._events = self._run.run()
        self._reading = threading.RLock()
        self._pieces: list[Piece] = []
        self._finished: Finished | None = None
        self._error: BaseException | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """Generates until the next event.

        Raises:
            LocalmtpError: the prompt is empty or does not fit the context, the model has no chat
                template, this thread has another unfinished reply, or a server was lost.
        """
        with self._reading:
            try:
                event = next(self._events)
            except StopIteration:
                raise
            except BaseException as error:
                self._error = error
                raise
        if isinstance(event, Generated):
            self._pieces.extend(event.pieces)
        elif isinstance(event, Finished):
            self._finished = event
        return event

    def stream_text(self) -> Iterator[str]:
        """Yields the text of the reply as it is generated, without thoughts.

        Raises:
            LocalmtpError: as `__next__`.
        """
        for event in self:
            if isinstance(event, Generated):
                text = _joined(event.pieces, Channel.ANSWER)
                if text:
                    yield text

    def text(self) -> str:
        """Returns the whole reply, without thoughts.

        Raises:
            LocalmtpError: as `__next__`.
        """
        self._read_all()
        return _joined(self._pieces, Channel.ANSWER)

    def thought(self) -> str:
        """Returns what the model thought; empty without `think`.

        Raises:
            LocalmtpError: as `__next__`.
        """
        self._read_all()
        return _joined(self._pieces, Channel.THOUGHT)

    def token_ids(self) -> list[int]:
        """Returns the ids of all generated tokens, thoughts included; empty with a server.

        Raises:
            LocalmtpError: as `__next__`.
        """
        self._read_all()
        return [piece.token_id for piece in self._pieces if piece.token_id >= 0]

    def stats(self) -> Stats:
        """Returns the statistics of the whole reply.

        Raises:
            LocalmtpError: as `__next__`.
        """
        return self._read_all().stats

    def finish_reason(self) -> FinishReason:
        """Returns why the reply ended.

        Raises:
            LocalmtpError: as `__next__`.
        """
        return self._read_all().reason

    def cancel(self) -> None:
        """Ends the reply after its current pass; its text so far is retained.

        May be called from any thread and from a signal handler, before or during generation.
        """
        self._run.cancel()

    def close(self) -> None:
        """Ends the reply and lets the next one generate; waits for the current pass.

        May be called from any thread, and again.
        """
        self.cancel()
        with self._reading:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read_all(self) -> Finished:
        for _ in self:
            pass
        if self._finished is None:
            if self._error is not None:
                raise self._error
            stats = self._run.last_stats
            if stats is None:
                raise LocalmtpError("the reply was closed before it was generated")
            self._finished = Finished(FinishReason.CANCELLED, stats)
        return self._finished


class _ReplyRun:
    """The part of a reply that uses the model."""

    def __init__(
        self,
        session: Session,
        turns: Turns,
        start: Callable[[], Iterator[Event]],
        reply: weakref.ref[Reply],
    ) -> None:
        self._session = session
        self._turns = turns
        self._start = start
        self._reply = reply
        self._state = threading.RLock()
        """Guards the two below; reentrant, because a signal handler may cancel at any time."""
        self._running = False
        self._cancelled = False
        self.last_stats: Stats | None = None
        """None until it has run."""

    def run(self) -> Generator[Event]:
        self._turns.take(self._reply)
        try:
            events = self._start()
            with self._state:
                self._running = True
                if self._cancelled:
                    self._session.cancel()
            yield from events
        finally:
            with self._state:
                self._running = False
            self.last_stats = self._session.stats()
            self._turns.release()

    def cancel(self) -> None:
        with self._state:
            self._cancelled = True
            if self._running:
                self._session.cancel()


def _joined(pieces: Iterator[Piece] | list[Piece] | tuple[Piece, ...], channel: Channel) -> str:
    return "".join(piece.text for piece in pieces if piece.channel is channel)
