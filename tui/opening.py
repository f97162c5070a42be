"""From a model's name to a session, in a thread of its own, told step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.tui.drawing.text import gauge, share

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions
    from localmtp.isolation.messages import OpenStep
    from localmtp.session import Choices, Session

BAR = 12
"""Cells of the bar in the line that tells how far it is."""

LONGEST_WAIT_S = 5.0
"""For a thread to notice that it was given up; a connection to a server that hangs is left to end
with the process."""

Tell = Callable[[str], None]
"""Says in words how far it is; raises `AbandonedError` when nobody wants to know any more."""

Opener = Callable[[str | None, Tell], "Session"]
"""Opens the model of a name; of none, the default one."""


class AbandonedError(Exception):
    """The model is not wanted any more."""


def opener(
    first: str | None,
    drafter: str | None,
    offline: bool,
    prepare: Callable[[], tuple[Choices, LoadOptions]],
) -> Opener:
    """Something that resolves, downloads if need be, and loads, in a process of its own.

    Args:
        first: the model that `drafter` is for; others take their own.
        drafter: a path; or `none`, for all models.
        offline: never download.
        prepare: what was asked for, see `localmtp.isolation.messages.OpenRequest`.
    """

    def opening(model: str | None, tell: Tell) -> Session:
        from localmtp.isolation import open_isolated
        from localmtp.isolation.messages import OpenRequest
        from localmtp.models.files import NO_DRAFTER

        own = drafter if model == first or drafter == NO_DRAFTER else None
        wanted = OpenRequest(model, own, offline, prepare)
        return open_isolated(wanted, lambda step: tell(_in_words(step)))

    return opening


def connecting(connect: Callable[[str | None], Session]) -> Opener:
    """Something that opens a server's model."""

    def opening(model: str | None, tell: Tell) -> Session:
        tell("connecting …")
        return connect(model)

    return opening


def _in_words(step: OpenStep) -> str:
    from localmtp.isolation.messages import Downloading, Loading

    match step:
        case Loading(model, part):
            return f"loading {model} {gauge(part, BAR)} {share(part)}"
        case Downloading():
            part = step.done / max(1, step.total)
            done, total = step.done / 1e9, step.total / 1e9
            name = step.file.rpartition("/")[2]
            return f"downloading {gauge(part, BAR)} {done:.2f} of {total:.2f} GB · {name}"
    return f"loading {step.model} …"


class Opening:
    """A model on its way into memory.

    Args:
        model: its name.
        open_it: resolves and loads it.
        ended: told, in the thread, when there is a session or a failure; not when given up.
    """

    def __init__(
        self, model: str | None, open_it: Opener, ended: Callable[[Opening], object]
    ) -> None:
        self.state = f"loading {model or 'the model'} …"
        """How far it is, in words."""
        self.session: Session | None = None
        self.failure: LocalmtpError | None = None
        self._abandoned = False
        self._ended = ended
        # A daemon: a connection that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(model, open_it), daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Not wanted any more: ends soon, without a word."""
        self._abandoned = True

    def close(self) -> None:
        """Gives it up if it goes on, and frees the model; blocking."""
        self.abandon()
        self._thread.join(LONGEST_WAIT_S)
        if self.session:
            self.session.close()

    def _run(self, model: str | None, open_it: Opener) -> None:
        try:
            self.session = open_it(model, self._tell)
        except AbandonedError:
            return
        except LocalmtpError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
            self.failure = LocalmtpError(
                f"{type(error).__name__}: {error}", hint="please report this"
            )
        if self._abandoned and self.session:
            self.session.close()
        elif not self._abandoned:
            # The event loop may have ended just now.
            with suppress(RuntimeError):
                self._ended(self)

    def _tell(self, state: str) -> None:
        if self._abandoned:
            raise AbandonedError
        self.state = state


class Loader:
    """The models that are loaded, and the one on its way.

    Args:
        opener: for all of them.
        ended: told, in the thread, when the one on its way is there or has failed.
    """

    def __init__(self, opener: Opener, ended: Callable[[Opening], object]) -> None:
        self._opener = opener
        self._ended = ended
        self._now: Opening | None = None
        self._loaded: list[Opening] = []

    @property
    def state(self) -> str:
        """How far the one on its way is; empty when there is none."""
        return self._now.state if self._now else ""

    def begin(self, model: str | None) -> None:
        """Opens a model; one that was on its way is given up."""
        self.give_up()
        self._now = Opening(model, self._opener, self._ended)

    def give_up(self) -> bool:
        """Gives up the one on its way; False if there is none."""
        if not self._now:
            return False
        self._now.abandon()
        self._loaded.append(self._now)
        self._now = None
        return True

    def arrived(self, opening: Opening) -> bool:
        """Takes note that one has ended; False if it had been given up before."""
        if opening is not self._now:
            return False
        self._loaded.append(opening)
        self._now = None
        return True

    def retire(self, wanted: Session) -> list[Opening]:
        """Those that are not needed any more, to be closed in a thread.

        Args:
            wanted: the session that answers now.
        """
        old = [opening for opening in self._loaded if opening.session is not wanted]
        self._loaded = [opening for opening in self._loaded if opening.session is wanted]
        return old

    def close(self) -> None:
        """Gives up what is on its way and frees everything; blocking."""
        self.give_up()
        for opening in self._loaded:
            opening.close()
