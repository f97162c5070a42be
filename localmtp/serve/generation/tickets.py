"""An order as the event loop sees it: updates to wait for, and a way to give it up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf

from localmtp.serve.generation.tasks import Ended, Failed, Order, Said, Task, Update
from localmtp.serve.generation.worker import Worker


class Ticket:
    """A submitted order.

    The model's thread never waits for a reader: updates gather here, bounded by the context.

    Args:
        worker: carries it out.
        tasks: the answers wanted.
        gather_s: seconds for which text gathers before it is looked at again; the first and the
            end of each answer never wait. Every look costs the model's thread some of its time.

    Raises:
        APIError: see `Worker.submit`.
    """

    def __init__(self, worker: Worker, tasks: Sequence[Task], *, gather_s: float) -> None:
        self._worker = worker
        self._gather_s = gather_s
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[tuple[int, Update]] = deque()
        self._some, self._urgent = asyncio.Event(), asyncio.Event()
        self._called = False
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
        left, looked = len(self._order.tasks), -inf
        while left:
            await self._some.wait()
            wait = looked + self._gather_s - self._loop.time()
            if wait > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._urgent.wait(), wait if wait < inf else None)
            looked = self._loop.time()
            for index, update in _merged(self._take()):
                if isinstance(update, Failed):
                    raise update.error
                left -= isinstance(update, Ended)
                yield index, update

    def _take(self) -> Iterator[tuple[int, Update]]:
        self._some.clear()
        self._urgent.clear()
        self._called = False  # from here on an update calls again, even if it is taken now
        while self._arrived:
            yield self._arrived.popleft()

    def _deliver(self, index: int, update: Update) -> None:
        """On the model's thread."""
        self._arrived.append((index, update))
        urgent = not isinstance(update, Said)
        if urgent or not self._called:
            self._called = True
            with suppress(RuntimeError):  # the loop has closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._call, urgent)

    def _call(self, urgent: bool) -> None:
        self._some.set()
        if urgent:
            self._urgent.set()


def _merged(arrived: Iterable[tuple[int, Update]]) -> list[tuple[int, Update]]:
    """The same, with what each task said put together: fewer events to send."""
    said: dict[int, Said] = {}
    merged: list[tuple[int, Update]] = []
    for index, update in arrived:
        if not isinstance(update, Said):
            merged += [(index, said.pop(index))] if index in said else []
            merged.append((index, update))
        elif before := said.get(index):
            said[index] = Said(
                before.text + update.text,
                before.thought + update.thought,
                before.scores + update.scores,
            )
        else:
            said[index] = update
    return [*merged, *said.items()]
