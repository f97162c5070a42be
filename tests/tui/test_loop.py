"""Slow calls happen outside the event loop's thread."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

from localmtp.session import Message, Role, Settings
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import local_opener
from localmtp.tui.screens.history import HistoryScreen
from tests.tui.screen import answered, prepared, ready, seen, wait_until

SLOW = {
    "sqlite3.connect",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.remove",
    "os.rename",
}
"""Audit events of calls that wait for a disk, a network or a process."""


class SlowCallMonitor:
    """Records the thread of slow calls until `on` is cleared: audit hooks cannot be removed."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []
        self.on = True
        self._loop = threading.get_ident()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event in SLOW:
            self.seen.append((event, threading.get_ident() == self._loop))


async def test_slow_calls_stay_off_the_event_loop(tmp_path: Path) -> None:
    from localmtp.history import History

    path = tmp_path / "history.sqlite3"
    history = History(path)
    turns = [Message(Role.USER, "Tell me"), Message(Role.MODEL, "word " * 50)]
    for number in range(60):
        history.save(history.begin(f"question {number}", "nano"), turns, Settings())
    history.close()
    watch = SlowCallMonitor()
    try:
        app = ChatApp("nano", local_opener("nano", None, True, prepared), path)
        async with app.run_test(size=(120, 36)) as pilot:
            conversation = await ready(pilot, app)
            before = gc.get_stats()[2]["collections"]
            await pilot.press(*"Hi", "enter")
            await answered(pilot, conversation)
            app.chat.switch_model("nano")
            old = conversation.session
            await wait_until(pilot, lambda: conversation.session is not old, "it is switched")
            await pilot.press("ctrl+l")
            await wait_until(pilot, lambda: isinstance(app.screen, HistoryScreen), "it is open")
            await wait_until(pilot, lambda: "question 59" in seen(app), "the list is shown")
            await pilot.press("escape")
            assert gc.get_stats()[2]["collections"] == before
    finally:
        watch.on = False
    happened = {event for event, _ in watch.seen}
    assert {"sqlite3.connect", "subprocess.Popen"} <= happened
    assert [event for event, on_loop in watch.seen if on_loop] == []
    app.close()
