"""An order as the event loop sees it: updates to wait for, and a way to give it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from localmtp.serve.tasks import Ended, Failed, Order, Said, Task, Update
from localmtp.serve.worker import Worker


class Ticket:
    """A submitted order.

    The model's thread never waits for a reader: updates gather here, bounded by the context.

    Args:
        worker: carries it out.
        tasks: the answers wanted.

    Raises:
        APIError: see `Worker.submit`.
    """

    def __init__(self, worker: Worker, tasks: Sequence[Task]) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._updates: asyncio.Queue[tuple[int, Update]] = asyncio.Queue()
        self._order = Order(tasks, self._deliver)
        worker.submit(self._order)

    def cancel(self) -> None:
        """Free its slot; harmless when it has ended."""
        self._worker.cancel(self._order)

    async def updates(self) -> AsyncIterator[tuple[int, Said | Ended]]:
        """What was said since the last look, by task, until all have ended.

        Raises:
            APIError: generation failed, or the server is going down.
        """
        left = len(self._order.tasks)
        while left:
            for index, update in _merged(await self._arrived()):
                if isinstance(update, Failed):
                    raise update.error
                left -= isinstance(update, Ended)
                yield index, update

    async def _arrived(self) -> list[tuple[int, Update]]:
        """Everything that is there, and at least one update."""
        arrived = [await self._updates.get()]
        while not self._updates.empty():
            arrived.append(self._updates.get_nowait())
        return arrived

    def _deliver(self, index: int, update: Update) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._updates.put_nowait, (index, update))


def _merged(arrived: Sequence[tuple[int, Update]]) -> list[tuple[int, Update]]:
    """The same, with what one task said in a row put together: fewer events to send."""
    merged: list[tuple[int, Update]] = []
    for index, update in arrived:
        before = merged[-1] if merged else (-1, None)
        if before[0] == index and isinstance(before[1], Said) and isinstance(update, Said):
            update = Said(
                before[1].text + update.text,
                before[1].thought + update.thought,
                before[1].scores + update.scores,
            )
            merged.pop()
        merged.append((index, update))
    return merged
