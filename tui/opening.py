"""From a model's name to a session, in a thread of its own, told step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.tui.text import gauge, share

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions
    from localmtp.models.download import Progress
    from localmtp.session import Choices, Session

BAR = 12
"""Cells of the bar in the line that tells how far it is."""

LONGEST_WAIT_S = 5.0
"""For a thread to notice that it was given up: libllama looks up several times a second, but a
connection may hang for long; that one is left to end with the process."""

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
    """Something that resolves, downloads if need be, and loads.

    Args:
        first: the model that `drafter` is for; others take their own.
        drafter: a path; or `none`, for all models.
        offline: never download.
        prepare: what was asked for; called in the thread, as it imports libllama.
    """

    def opening(model: str | None, tell: Tell) -> Session:
        from localmtp.local_session import open_session
        from localmtp.models import resolve
        from localmtp.models.files import NO_DRAFTER

        def downloading(progress: Progress) -> None:
            tell(_downloaded(progress))

        def loading(part: float) -> bool:
            try:
                tell(f"loading {files.name} {gauge(part, BAR)} {share(part)}")
            except AbandonedError:
                return False
            return True

        own = drafter if model == first or drafter == NO_DRAFTER else None
        files = resolve(model, drafter=own, offline=offline, progress=downloading)
        tell(f"loading {files.name} …")
        choices, options = prepare()
        return open_session(files, choices, replace(options, progress=loading))

    return opening


def connecting(connect: Callable[[str | None], Session]) -> Opener:
    """Something that opens a server's model."""

    def opening(model: str | None, tell: Tell) -> Session:
        tell("connecting …")
        return connect(model)

    return opening


def _downloaded(progress: Progress) -> str:
    part = progress.done_in_all / max(1, progress.total_in_all)
    done, total = progress.done_in_all / 1e9, progress.total_in_all / 1e9
    name = progress.file.rpartition("/")[2]
    return f"downloading {gauge(part, BAR)} {done:.2f} of {total:.2f} GB · {name}"


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
