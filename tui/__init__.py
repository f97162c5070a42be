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
"""Drawing releases the interpreter lock for each write to the terminal. With Python's default of
5 ms, getting it back from a thread that imports or loads a history delays the screen visibly."""


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
        model: as for `localmtp.models.resolve`; resolved and loaded while the chat is open.
        drafter: path of a drafter, or `none`.
        offline: never download.
        prepare: returns settings and load options; called in the model's process, so it must be a
            module-level function or a `partial` of one.
        connect: opens a session with a server's model; replaces all arguments above but `model`.
        save: save conversations in the user's data folder.
        mouse: handle clicks and the wheel; otherwise the terminal does, for selecting text.

    Raises:
        LocalmtpError: the model could not be loaded; the chat has shown the same error.
    """
    from localmtp.paths import history_file, theme_file
    from localmtp.tui.app import ChatApp
    from localmtp.tui.model_loading import local_opener, server_opener

    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    app = ChatApp(
        model,
        server_opener(connect) if connect else local_opener(model, drafter, offline, prepare),
        history_file() if save else None,
        theme_file(),
    )
    try:
        app.run(mouse=mouse)
    finally:
        app.close()
    if app.chat.error:
        raise app.chat.error
