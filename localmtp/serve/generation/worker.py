"""The model's thread: orders are carried out together, as many as there is room for."""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import perf_counter

from localmtp.engine.sampling.grammar import UnsatisfiableError
from localmtp.errors import LocalmtpError
from localmtp.serve.errors import APIError
from localmtp.serve.generation.answer import Answer
from localmtp.serve.generation.model import ServedModel
from localmtp.serve.generation.tasks import Ended, Failed, Order, Said
from localmtp.serve.metrics import Metrics

_LOG = logging.getLogger(__name__)


class Worker:
    """Owns the thread on which the model runs.

    Args:
        model: carries orders out.
        metrics: where the queue is shown.
        queue: orders that may wait.
        time_limit: seconds after which an order's generation is ended.
    """

    def __init__(
        self, model: ServedModel, metrics: Metrics, *, queue: int, time_limit: float
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._limit = queue
        self._time_limit = time_limit
        self._waiting: deque[Order] = deque()
        """Orders some of whose tasks have not begun."""
        self._running: dict[Answer, tuple[Order, int]] = {}
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
            # What there is room for is taken at once, so it does not count as waiting.
            if len(self._waiting) >= self._limit + self._model.parallel - len(self._running):
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
        """Take no more orders and give up those that wait; the running ones go on."""
        with self._changed:
            self._closing = True
            waiting = [order for order in self._waiting if not order.begun]
            self._waiting = deque(order for order in self._waiting if order.begun)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()
        for order in waiting:
            order.deliver(0, Failed(going_down()))

    def cut(self) -> None:
        """Cancel what runs; clients are told that the server is going down."""
        with self._changed:
            for order in (*self._waiting, *(order for order, _ in self._running.values())):
                order.cancelled.set()
            self._waiting.clear()

    def close(self) -> None:
        """Cancel everything and wait for the thread to end; harmless when repeated."""
        self.drain()
        self.cut()
        self._thread.join()

    def _work(self) -> None:
        while self._take_in():
            try:
                for answer, what in self._model.step():
                    self._tell(answer, what)
            except LocalmtpError as error:
                self._fail_all(APIError(500, error.message))
            except Exception:  # noqa: BLE001 - the server must outlive a bug
                _LOG.exception("generation failed")
                self._fail_all(APIError(500, "generation failed"))

    def _take_in(self) -> bool:
        """Begin what there is room for; wait while there is nothing to do.

        Returns:
            Whether something runs; if not, it is time to end.
        """
        with self._changed:
            self._show()
            self._changed.wait_for(lambda: self._waiting or self._running or self._closing)
            while self._waiting and self._model.free:
                order = self._waiting[0]
                self._begin(order)
                if order.begun == len(order.tasks):
                    self._waiting.popleft()
            self._show()
            return bool(self._running)

    def _begin(self, order: Order) -> None:
        now = perf_counter()
        if not order.begun:
            order.deadline = now + self._time_limit
            self._metrics.queue_s.observe(now - order.submitted)
        index, deadline, cancelled = order.begun, order.deadline, order.cancelled.is_set
        order.begun += 1
        answer = self._model.begin(
            order.tasks[index], lambda: cancelled() or perf_counter() > deadline
        )
        self._running[answer] = order, index

    def _tell(self, answer: Answer, what: Said | Ended | LocalmtpError) -> None:
        order, index = self._running[answer]
        if not isinstance(what, Said):
            with self._changed:
                del self._running[answer]
        if isinstance(what, LocalmtpError):
            status = 400 if isinstance(what, UnsatisfiableError) else 500
            param = "response_format" if status == 400 else None
            self._fail(order, index, APIError(status, what.message, param=param))
        elif not order.cancelled.is_set():
            order.deliver(index, what)
        elif isinstance(what, Ended):  # by a client that is gone, or by `cut`
            order.deliver(index, Failed(going_down()))

    def _fail(self, order: Order, index: int, error: APIError) -> None:
        """Tell a client, and end what else it has asked for."""
        if not order.cancelled.is_set():
            order.deliver(index, Failed(error))
            self.cancel(order)

    def _fail_all(self, error: APIError) -> None:
        self._model.give_up()
        with self._changed:
            failed = list(self._running.values())
            self._running.clear()
        for order, index in failed:
            self._fail(order, index, error)

    def _show(self) -> None:
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len({order for order, _ in self._running.values()}))


def going_down() -> APIError:
    """For requests that come too late."""
    return APIError(503, "the server is going down", code="shutting_down")
