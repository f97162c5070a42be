"""The terminal chat."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions
    from localmtp.mcp.host import ToolHost
    from localmtp.session import Choices, Session

__all__ = ["run_chat"]

_SWITCH_INTERVAL_S = 0.0002
"""Drawing releases the interpreter lock for each write to the terminal. With Python's default of
5 ms, getting it back from a thread that imports or loads a history delays the screen visibly."""


def run_chat(
    model: str | None,
    *,
    drafter: str | None = None,
    projector: str | None = None,
    offline: bool = False,
    prepare: Callable[[], tuple[Choices, LoadOptions]],
    connect: Callable[[str | None], Session] | None = None,
    save: bool = True,
    mouse: bool = True,
    tools: ToolHost | None = None,
) -> None:
    """Opens the chat and returns when the user leaves it.

    Args:
        model: as for `localmtp.models.resolve`; resolved and loaded while the chat is open.
        drafter: path of a drafter, or `none`.
        projector: path of a projector, or `none`.
        offline: never download.
        prepare: returns settings and load options; called in the model's process, so it must be a
            module-level function or a `partial` of one.
        connect: opens a session with a server's model; replaces all arguments above but `model`.
        save: save conversations in the user's data folder.
        tools: that answers may call; closed at the end.
        mouse: handle clicks and the wheel; otherwise the terminal does, for selecting text.

    Raises:
        LocalmtpError: there is no such model, and the chat was not opened; or it could not be
            loaded, and the chat has shown the same error.
    """
    from localmtp.paths import history_file, previews_file, theme_file, tool_approvals
    from localmtp.portability import stderr_for_python
    from localmtp.tui.app import ChatApp
    from localmtp.tui.media.graphics import picture_widget
    from localmtp.tui.model_loading import local_opener, server_opener
    from localmtp.tui.tool_use import ToolUse

    if model and not connect:
        _check_name(model)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    app = ChatApp(
        model,
        server_opener(connect)
        if connect
        else local_opener(model, drafter, offline, prepare, projector),
        history_file() if save else None,
        theme_file(),
        previews_file(),
        picture_widget(),
        ToolUse(tools, tool_approvals() if save else None) if tools else None,
    )
    try:
        with stderr_for_python():
            app.run(mouse=mouse)
    finally:
        app.close()
        if tools:
            tools.close()
    if app.chat.error:
        raise app.chat.error


def _check_name(model: str) -> None:
    """Reports unknown names and missing files in the shell, where they can be corrected."""
    from localmtp.models.naming.reference import is_registered, parse_reference
    from localmtp.models.resolution import is_on_hub

    if is_on_hub(model):
        # Choosing a quantization type loads libllama, which the model's process does.
        if ":" in model or not is_registered(model):
            parse_reference(model)
    elif model != "nano" and not Path(model).expanduser().exists():
        raise LocalmtpError(
            f"no such file: {model}",
            hint="check the path; `localmtp list` shows the models on this machine",
        )
