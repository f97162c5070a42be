"""Loads models in background threads and reports progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.tui.rendering.formatting import percent, progress_bar

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions
    from localmtp.isolation.messages import OpenStep
    from localmtp.session import Choices, Session

BAR_WIDTH = 12
"""Cells of the progress bar."""

JOIN_TIMEOUT_S = 5.0
"""Time for a cancelled thread to end; a connection to a hanging server ends with the process."""

ReportProgress = Callable[[str], None]
"""Takes the progress as text; raises `LoadCancelledError` once loading was cancelled."""

OpenSession = Callable[[str | None, ReportProgress], "Session"]
"""Opens a session with the model of a name, or with the default model; blocking."""


class LoadCancelledError(Exception):
    """Loading was cancelled."""


def local_opener(
    first: str | None,
    drafter: str | None,
    offline: bool,
    prepare: Callable[[], tuple[Choices, LoadOptions]],
    projector: str | None = None,
) -> OpenSession:
    """Returns a function that resolves, downloads and loads models in a process of their own.

    Args:
        first: model that `drafter` and `projector` belong to; other models use their own.
        drafter: path of a drafter, or `none` for no drafter with any model.
        offline: never download.
        prepare: returns settings and load options, see `localmtp.isolation.messages.OpenRequest`.
        projector: path of a projector, or `none` for no images and sound with any model.
    """

    def open_session(model: str | None, report: ReportProgress) -> Session:
        from localmtp.isolation import open_isolated
        from localmtp.isolation.messages import OpenRequest
        from localmtp.models.files import NO_DRAFTER, NO_PROJECTOR

        own = drafter if model == first or drafter == NO_DRAFTER else None
        encoder = projector if model == first or projector == NO_PROJECTOR else None
        request = OpenRequest(model, own, offline, prepare, encoder)
        return open_isolated(request, lambda step: report(_progress_text(step)))

    return open_session


def server_opener(connect: Callable[[str | None], Session]) -> OpenSession:
    """Returns a function that opens sessions with the models of a server."""

    def open_session(model: str | None, report: ReportProgress) -> Session:
        report("connecting …")
        return connect(model)

    return open_session


def _progress_text(step: OpenStep) -> str:
    from localmtp.isolation.messages import Downloading, Loading

    match step:
        case Loading(model, part):
            return f"loading {model} {progress_bar(part, BAR_WIDTH)} {percent(part)}"
        case Downloading():
            part = step.done / max(1, step.total)
            done, total = step.done / 1e9, step.total / 1e9
            name = step.file.rpartition("/")[2]
            bar = progress_bar(part, BAR_WIDTH)
            return f"downloading {bar} {done:.2f} of {total:.2f} GB · {name}"
    return f"loading {step.model} …"


class ModelLoad:
    """Loads one model in a thread, which starts immediately.

    Args:
        model: its name; None for the default model.
        open_session: resolves and loads it.
        finished: called in the thread once there is a session or an error; not after `cancel`.
    """

    def __init__(
        self,
        model: str | None,
        open_session: OpenSession,
        finished: Callable[[ModelLoad], object],
    ) -> None:
        self.progress = f"loading {model or 'the model'} …"
        """Human-readable progress."""
        self.session: Session | None = None
        self.error: LocalmtpError | None = None
        self._cancelled = False
        self._finished = finished
        # A daemon: a hanging connection must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, args=(model, open_session), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Cancels loading; returns immediately."""
        self._cancelled = True

    def close(self) -> None:
        """Cancels loading and frees the model; blocking."""
        self.cancel()
        self._thread.join(JOIN_TIMEOUT_S)
        if self.session:
            self.session.close()

    def _run(self, model: str | None, open_session: OpenSession) -> None:
        try:
            self.session = open_session(model, self._report)
        except LoadCancelledError:
            return
        except LocalmtpError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a thread has no caller to raise to
            self.error = LocalmtpError(
                f"{type(error).__name__}: {error}", hint="please report this as a bug"
            )
        if self._cancelled and self.session:
            self.session.close()
        elif not self._cancelled:
            # The event loop may just have ended.
            with suppress(RuntimeError):
                self._finished(self)

    def _report(self, progress: str) -> None:
        if self._cancelled:
            raise LoadCancelledError
        self.progress = progress


class ModelLoader:
    """Owns the loaded models and the one being loaded.

    Args:
        open_session: opens all of them.
        finished: called in a thread when the model being loaded is ready or failed.
    """

    def __init__(self, open_session: OpenSession, finished: Callable[[ModelLoad], object]) -> None:
        self._open_session = open_session
        self._finished = finished
        self._current: ModelLoad | None = None
        self._done: list[ModelLoad] = []

    @property
    def progress(self) -> str:
        """Progress of the model being loaded; empty when there is none."""
        return self._current.progress if self._current else ""

    def start(self, model: str | None) -> None:
        """Starts to load a model; cancels the one being loaded."""
        self.cancel()
        self._current = ModelLoad(model, self._open_session, self._finished)

    def cancel(self) -> bool:
        """Cancels the model being loaded; returns False if there is none."""
        if not self._current:
            return False
        self._current.cancel()
        self._done.append(self._current)
        self._current = None
        return True

    def complete(self, load: ModelLoad) -> bool:
        """Records that a load finished; returns False if it was cancelled before."""
        if load is not self._current:
            return False
        self._done.append(load)
        self._current = None
        return True

    def retire(self, current: Session) -> list[ModelLoad]:
        """Removes and returns the loads that are no longer used; the caller closes them.

        Args:
            current: session that stays.
        """
        old = [load for load in self._done if load.session is not current]
        self._done = [load for load in self._done if load.session is current]
        return old

    def close(self) -> None:
        """Cancels loading and frees all models; blocking."""
        self.cancel()
        for load in self._done:
            load.close()
