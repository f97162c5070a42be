"""The terminal chat."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions
    from localmtp.session import Choices, Session

__all__ = ["run_chat"]

_SWITCH_INTERVAL_S = 0.0002
"""Drawing comes back from the terminal many times and each time waits for the interpreter, while a
thread imports or reads a history: with Python's 5 ms that is seen."""


def run_chat(
    model: str | None,
    *,
    drafter: str | None = None,
    offline: bool = False,
    prepare: Callable[[], tuple[Choices, LoadOptions]],
    connect: Callable[[str | None], Session] | None = None,
    save: bool = True,
    mouse: bool = True,
) -> None:
    """Opens the chat and returns when the user leaves it.

    Args:
        model: as `localmtp.models.resolve` takes it; resolved and loaded behind the open chat.
        drafter: a path, or `none`.
        offline: never download.
        prepare: over the model's own settings, and how it is put on the machine; called in the
            process with the model: a function of a module, or a `partial` of one.
        connect: opens a server's model of a name, in place of all these.
        save: keep conversations in the user's data folder.
        mouse: take clicks and the wheel; else the terminal keeps them, to select and scroll.

    Raises:
        LocalmtpError: the model could not be loaded; the chat has shown the same line.
    """
    from localmtp.paths import history_file, theme_file
    from localmtp.tui.app import ChatApp
    from localmtp.tui.opening import connecting, opener

    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    app = ChatApp(
        model,
        connecting(connect) if connect else opener(model, drafter, offline, prepare),
        history_file() if save else None,
        theme_file(),
    )
    try:
        app.run(mouse=mouse)
    finally:
        app.close()
    if app.chat.failure:
        raise app.chat.failure
