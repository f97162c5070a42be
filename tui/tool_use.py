"""Runs the tools that answers call, after the user has allowed it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from enum import StrEnum
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from localmtp.engine.events import Event, Finished, FinishReason
from localmtp.tui.preferences import load_preference, save_preference

if TYPE_CHECKING:
    from localmtp.engine.text.tool_calls import ToolCall
    from localmtp.mcp.host import HostedTool, ToolHost
    from localmtp.session import Session

MOST_STEPS = 25
"""Rounds of calls in one answer: a model that only calls tools must end."""

_POLL_S = 0.1


class Approval(StrEnum):
    """The user's answer to a call."""

    ONCE = "once"
    CONVERSATION = "conversation"
    ALWAYS = "always"
    NO = "no"


Ask = Callable[["HostedTool", Mapping[str, Any]], "Future[Approval | None]"]
"""Asks the user about a call; called in the generating thread."""

Show = Callable[[str, str | None], object]
"""Shows a call, as text, and its result; None while it runs. Called in the generating thread."""


class ToolUse:
    """Continues answers with the results of the tools that they call.

    Args:
        host: runs the tools.
        approvals: file of the tools that are always allowed; None to save none.
    """

    def __init__(self, host: ToolHost, approvals: Path | None) -> None:
        self.host = host
        self._file = approvals
        saved = load_preference(approvals).splitlines() if approvals else []
        self._always = set(saved)
        self._here: set[str] = set()
        self._stopped = Flag()

    def begin_conversation(self) -> None:
        """Forgets what was allowed for one conversation."""
        self._here.clear()

    def stop(self) -> None:
        """Gives up the running call, and asks no more."""
        self._stopped.set()

    def events(
        self, session: Session, start: Callable[[], Iterator[Event]], ask: Ask, show: Show
    ) -> Iterator[Event]:
        """Yields the events of an answer and of its continuations, `Finished` once.

        Args:
            session: generates the answer.
            start: starts the answer.
            ask: asks about calls that are not allowed yet.
            show: shows calls and results.
        """
        self._stopped.clear()
        # Reported when the model was loaded.
        session.tools = () if session.knows_tools is False else self.host.functions()
        return self._continued(session, start(), ask, show)

    def _continued(
        self, session: Session, events: Iterator[Event], ask: Ask, show: Show
    ) -> Iterator[Event]:
        for _ in range(MOST_STEPS):
            finished: Finished | None = None
            for event in events:
                if isinstance(event, Finished):
                    finished = event
                else:
                    yield event
            calls = session.messages[-1].calls
            if finished is None:
                return
            if not calls or finished.reason is not FinishReason.STOP:
                yield finished
                return
            results = [self._result(call, ask, show) for call in calls]
            if self._stopped.is_set():
                session.messages[-1].finish = FinishReason.CANCELLED
                yield Finished(FinishReason.CANCELLED, finished.stats)
                return
            events = session.continue_with(results)
        session.cancel()
        yield from events

    def _result(self, call: ToolCall, ask: Ask, show: Show) -> str:
        text = described(call)
        tool = self.host.find(call.name)
        if tool is None:
            result = f"Error: there is no tool {call.name}"
        elif not self._allowed(tool, call.arguments, ask):
            result = "Error: the user did not allow this call"
        else:
            show(text, None)
            result = self.host.call(tool, call.arguments, self._stopped.is_set)
        show(text, result)
        return result

    def _allowed(self, tool: HostedTool, arguments: Mapping[str, Any], ask: Ask) -> bool:
        name = f"{tool.server}/{tool.name}"
        if name in self._always or name in self._here:
            return True
        future = ask(tool, arguments)
        approval: Approval | None = None
        while not self._stopped.is_set():
            try:
                approval = future.result(_POLL_S)
                break
            except TimeoutError:
                continue
        if approval is Approval.CONVERSATION:
            self._here.add(name)
        if approval is Approval.ALWAYS:
            self._always.add(name)
            if self._file:
                save_preference(self._file, "\n".join(sorted(self._always)))
        return approval not in (None, Approval.NO)


def described(call: ToolCall) -> str:
    """Formats a call as in Python."""
    arguments = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items()
    )
    return f"{call.name}({arguments})"
