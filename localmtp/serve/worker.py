"""The model's thread: orders are carried out one after the other, in the order they came."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter

from localmtp.engine.grammar import UnsatisfiableError
from localmtp.errors import LocalmtpError
from localmtp.serve.errors import APIError
from localmtp.serve.metrics import Metrics
from localmtp.serve.tasks import Ended, Failed, Order, Said, Task

_LOG = logging.getLogger(__name__)

Generate = Callable[[Task, Callable[[], bool]], Iterator[Said | Ended]]


class Worker:
    """Owns the thread on which the model runs.

    Args:
        generate: see `ServedModel.updates`.
        metrics: where the queue is shown.
        queue: orders that may wait.
        time_limit: seconds after which an order's generation is ended.
    """

    def __init__(
        self, generate: Generate, metrics: Metrics, *, queue: int, time_limit: float
    ) -> None:
        self._generate = generate
        self._metrics = metrics
        self._limit = queue
        self._time_limit = time_limit
        self._waiting: deque[Order] = deque()
        self._running: Order | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, order: Order) -> None:
        """Queue an order.

        Raises:
            APIError: the queue is full (429), or the server is going down (503).
        """
        with self._changed:
            if self._closing:
                raise going_down()
            # An idle thread takes the order at once, so it does not count as waiting.
            if len(self._waiting) >= self._limit + (self._running is None):
                raise APIError(
                    429,
                    f"the server is busy: {len(self._waiting)} requests are waiting",
                    code="queue_full",
                    headers={"Retry-After": "1"},
                )
            self._waiting.append(order)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()

    def cancel(self, order: Order) -> None:
        """End an order after its current pass, or take it off the queue."""
        order.cancelled.set()
        with self._changed:
            if order in self._waiting:
                self._waiting.remove(order)
                self._metrics.waiting.set(len(self._waiting))

    def drain(self) -> None:
        """Take no more orders and give up those that wait; the running one goes on."""
        with self._changed:
            self._closing = True
            waiting, self._waiting = self._waiting, deque()
            self._metrics.waiting.set(0)
            self._changed.notify()
        for order in waiting:
            order.deliver(0, Failed(going_down()))

    def cut(self) -> None:
        """Cancel what runs; its client is told that the server is going down."""
        running = self._running
        if running is not None:
            running.cancelled.set()

    def close(self) -> None:
        """Cancel everything and wait for the thread to end; harmless when repeated."""
        self.drain()
        self.cut()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                order = self._running = self._waiting.popleft()
                self._metrics.waiting.set(len(self._waiting))
            with self._metrics.running.track_inprogress():
                self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        began = perf_counter()
        self._metrics.queue_s.observe(began - order.submitted)
        deadline = began + self._time_limit

        def stopped() -> bool:
            return order.cancelled.is_set() or perf_counter() > deadline

        try:
            for index, task in enumerate(order.tasks):
                for update in self._generate(task, stopped):
                    if order.cancelled.is_set():  # by a client that is gone, or by `cut`
                        order.deliver(index, Failed(going_down()))
                        return
                    order.deliver(index, update)
        except UnsatisfiableError as error:
            order.deliver(index, Failed(APIError(400, error.message, param="response_format")))
        except LocalmtpError as error:
            order.deliver(index, Failed(APIError(500, error.message)))
        except Exception:  # noqa: BLE001 - one request must not take the others down
            _LOG.exception("generation failed")
            order.deliver(index, Failed(APIError(500, "generation failed")))


def going_down() -> APIError:
    """For requests that come too late."""
    return APIError(503, "the server is going down", code="shutting_down")
