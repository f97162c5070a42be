"""Longest steps of the chat's event loop, by kind of work.

python -m localmtp.bench.lab.chat.event_loop

Downloads come from the tests' hub on loopback.

Steps are measured in CPU time of the loop's thread, so that other programs do not count. Waiting
for a disk or a lock is not included (tests/tui/test_loop.py checks that), nor is the time that a
terminal takes to draw.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from asyncio.events import Handle
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic, thread_time
from typing import TYPE_CHECKING

from psutil import Process  # type: ignore[import-untyped]
from textual.pilot import Pilot

from localmtp.bench.lab.checkout import imports_from_tests
from localmtp.cli.options import GenerationFlags, PairFlags, prepared
from localmtp.engine.sampling.params import SamplingParams
from localmtp.history import History
from localmtp.session import Message, OnFull, Role, Settings
from localmtp.tui.app import ChatApp
from localmtp.tui.model_loading import local_opener
from localmtp.tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from tests.hub import Hub

PAIR = PairFlags(threads=1)
GENERATION = GenerationFlags(temp=0.0, max_tokens=400, on_full="drop")
CODE = "```python\n" + "def f(x):\n    return [x, 'text', 1]  # note\n\n" * 40 + "```\n"
PROSE = "Some *words* about `this` and **that**, as they come in answers.\n\n" * 20
PATIENCE_S = 120.0
DOWNLOADED = "someone/tiny"
BYTES_PER_S = 4e6


class LoopTimer:
    """Times every step of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.steps = 0
        run = Handle._run

        def timed(handle: Handle) -> None:
            began = thread_time()
            run(handle)
            self.longest = max(self.longest, thread_time() - began)
            self.steps += 1

        Handle._run = timed  # type: ignore[method-assign, assignment]

    async def over(self, name: str, work: Awaitable[object]) -> None:
        """Print the longest step during some work."""
        self.longest, self.steps = 0.0, 0
        await work
        await asyncio.sleep(0.3)
        print(f"{name:<34} {1e3 * self.longest:6.1f} ms of {self.steps:5} steps", flush=True)


async def until(done: Callable[[], object]) -> None:
    """Wait for a condition, or exit."""
    deadline = monotonic() + PATIENCE_S
    while not done():
        if monotonic() > deadline:
            raise SystemExit("timed out")
        await asyncio.sleep(0.05)


def write_history(path: Path) -> None:
    """Write a history of many conversations, one of them with 200 messages."""
    history = History(path)
    settings = Settings(SamplingParams(temperature=0.0), max_tokens=400, on_full=OnFull.DROP)
    turns = [Message(Role.USER, "Tell me"), Message(Role.MODEL, PROSE + CODE)]
    for number in range(200):
        history.save(history.begin(f"question {number}", "nano"), turns, settings)
    history.save(history.begin("a long one", "nano"), turns * 100, settings)
    history.close()


def _answered_since(chat: ChatScreen, before: object) -> bool:
    return chat.conversation.last_answer() is not before


async def walk(app: ChatApp, pilot: Pilot[None], watch: LoopTimer) -> None:
    """Do all kinds of work, one after the other."""
    chat = app.chat

    async def answer(text: str, times: int = 1) -> None:
        for _ in range(times):
            before = chat.conversation.last_answer()
            chat.conversation.prompt.put(text)
            await pilot.press("enter")
            await until(partial(_answered_since, chat, before))
            await until(lambda: not chat.conversation.answer)

    async def screen(*keys: str) -> None:
        await pilot.press(*keys)
        await asyncio.sleep(1.0)
        await pilot.press("down", "down", "escape")
        await asyncio.sleep(0.2)

    async def switch(model: str) -> None:
        before = chat.conversation.session
        chat.switch_model(model)
        await until(lambda: chat.conversation.session is not before)

    async def long_one() -> None:
        await pilot.press("ctrl+l", *"long")
        await asyncio.sleep(1.0)
        await pilot.press("enter")
        await until(lambda: len(chat.conversation.transcript.entries) == 200)
        await asyncio.sleep(3.0)
        await pilot.press("alt+up", *["pageup"] * 5, "escape")

    await watch.over("opening, loading", until(lambda: chat.conversation.session))
    await watch.over("typing", pilot.press(*"some words that are typed", "escape"))
    await watch.over("generating", answer("Count from 1 to 100.", 4))
    await watch.over("a prompt of 1,500 tokens", answer("one two three four five six " * 60))
    await watch.over("race", race(app, pilot))
    await watch.over("downloading", switch(DOWNLOADED))
    await watch.over("switching models", switch("nano"))
    await watch.over("list of models", screen("ctrl+o"))
    await watch.over("list of conversations", screen("ctrl+l"))
    await watch.over("help", screen("f1"))
    await watch.over("settings", screen("f2"))
    await watch.over("palette", screen("ctrl+p"))
    await watch.over("rounds", screen("f4"))
    await watch.over("colours of tokens", screen("f3"))
    await watch.over("the other theme", screen("f5"))
    await watch.over("the rendered prompt", screen(*"/prompt", "enter"))
    await watch.over("a conversation of 200 messages", long_one())
    await watch.over("another width", pilot.resize_terminal(80, 24))
    await watch.over("generating, 200 messages before", answer("Count from 1 to 100."))
    print(f"memory of the interface: {Process().memory_info().rss / 1e6:.0f} MB")


async def race(app: ChatApp, pilot: Pilot[None]) -> None:
    """Run a race to its end."""
    app.chat.conversation.prompt.put("/race Count from 1 to 100.")
    await pilot.press("enter")
    await until(lambda: getattr(app.screen, "is_over", False))
    await pilot.press("escape")


def publish(folder: Path) -> Hub:
    """Return a hub with a tiny pair that takes some seconds to download."""
    with imports_from_tests():
        from tests.hub import Hub
        from tests.pairs import TINY, write_pair
    target = folder / "tiny.gguf"
    write_pair(TINY["dense"], target, folder / "mtp-tiny.gguf")
    hub = Hub()
    hub.publish(DOWNLOADED, {"tiny-Q8_0.gguf": target.read_bytes() + bytes(16 << 20)})
    hub.faults.bytes_per_second = BYTES_PER_S
    return hub


async def main() -> None:
    """Measure the chat on `nano`."""
    watch = LoopTimer()
    with tempfile.TemporaryDirectory() as folder, publish(Path(folder)).running() as hub:
        os.environ |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": folder, "XDG_CACHE_HOME": folder}
        history = Path(folder) / "history.sqlite3"
        write_history(history)
        app = ChatApp(
            "nano", local_opener("nano", None, False, partial(prepared, PAIR, GENERATION)), history
        )
        async with app.run_test(size=(120, 36)) as pilot:
            await walk(app, pilot, watch)
        app.close()


if __name__ == "__main__":
    asyncio.run(main())
