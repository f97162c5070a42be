"""The model thread: jobs are decoded together, as many choices as there are slots.

The queue is fair: a free slot goes to the client, then to the job, with the fewest running choices,
so that neither a request with many choices nor a client with many requests delays the others.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from time import monotonic, perf_counter

from localmtp.engine.sampling.grammar import UnsatisfiableError
from localmtp.errors import LocalmtpError
from localmtp.serve.errors import APIError
from localmtp.serve.generation.choice import RunningChoice
from localmtp.serve.generation.job import Delta, Done, GenerationJob, JobFailed
from localmtp.serve.generation.model import ServedModel
from localmtp.serve.metrics import Metrics

_LOG = logging.getLogger(__name__)

_STALLED_S = 120.0
"""A single pass takes less, even prefill of a large model on a slow machine."""

_JOIN_S = 5.0
"""Wait for the thread on shutdown; a pass that takes longer does not hold up the process."""


class Worker:
    """Owns the thread on which the model runs.

    Args:
        model: decodes the jobs.
        metrics: reports the queue.
        queue: maximum number of waiting jobs.
        time_limit: seconds of generation per job.
    """

    def __init__(
        self, model: ServedModel, metrics: Metrics, *, queue: int, time_limit: float
    ) -> None:
        self._model = model
        self._metrics = metrics
        self._limit = queue
        self._time_limit = time_limit
        self._waiting: list[GenerationJob] = []
        """Jobs with choices that have not started; those that got a slot recently come last."""
        self._running: dict[RunningChoice, tuple[GenerationJob, int]] = {}
        self._closing = False
        self._step_began: float | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def stalled(self) -> bool:
        """Whether the thread has ended, or a pass takes implausibly long."""
        began = self._step_began
        slow = began is not None and monotonic() - began > _STALLED_S
        return slow or not (self._closing or self._thread.is_alive())

    def submit(self, job: GenerationJob) -> None:
        """Queue a job.

        Raises:
            APIError: the queue is full (429), or the server is shutting down (503).
        """
        with self._changed:
            if self._closing:
                raise shutting_down()
            # A job that can start immediately does not count as waiting.
            free = self._model.parallel - len(self._running)
            waiting = sum(not job.started for job in self._waiting)
            if waiting >= self._limit + free:
                raise APIError(
                    429,
                    f"the server is busy: {waiting} requests are waiting",
                    code="queue_full",
                    headers={"Retry-After": "1"},
                )
            self._waiting.append(job)
            self._report()
            self._changed.notify()

    def cancel(self, job: GenerationJob) -> None:
        """Remove a job from the queue, or end it after the current pass; harmless once it ended."""
        job.cancelled.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._report()

    def drain(self) -> None:
        """Reject new and waiting jobs; running ones continue."""
        with self._changed:
            self._closing = True
            waiting = [job for job in self._waiting if not job.started]
            self._waiting = [job for job in self._waiting if job.started]
            self._report()
            self._changed.notify()
        for job in waiting:
            job.deliver(0, JobFailed(shutting_down()))

    def cut(self) -> None:
        """Cancel running jobs; their clients get a 503."""
        with self._changed:
            for job in (*self._waiting, *(job for job, _ in self._running.values())):
                job.cancelled.set()
            self._waiting.clear()

    def close(self) -> bool:
        """Cancel everything and join the thread; harmless when repeated.

        Returns:
            Whether the thread has ended; otherwise it is inside a pass and must be abandoned.
        """
        self.drain()
        self.cut()
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while self._start_waiting():
            self._step_began = monotonic()
            try:
                for choice, update in self._model.step():
                    self._deliver(choice, update)
            except LocalmtpError as error:
                self._fail_all(APIError(500, error.message))
            except Exception:  # noqa: BLE001 - the server must survive a bug
                _LOG.exception("generation failed")
                self._fail_all(APIError(500, "generation failed"))
            if not (self._running or self._waiting or self._closing):
                self._model.rest()
            self._step_began = None

    def _start_waiting(self) -> bool:
        """Fill free slots; block while there is nothing to do.

        Returns:
            False when the server is shutting down and nothing runs any more.
        """
        with self._changed:
            self._report()
            self._changed.wait_for(lambda: self._waiting or self._running or self._closing)
            while self._model.free and (job := self._next_job()):
                self._waiting.remove(job)
                self._start_choice(job)
                if job.started < len(job.params):
                    self._waiting.append(job)
            self._report()
            return bool(self._running)

    def _next_job(self) -> GenerationJob | None:
        """The waiting job whose client, then the job itself, has the fewest running choices.

        A job with more choices than slots leaves one slot free for others.
        """
        parallel = self._model.parallel
        jobs = Counter(job for job, _ in self._running.values())
        clients = Counter(job.client for job, _ in self._running.values())
        ready = [
            job
            for job in self._waiting
            if jobs[job] < (parallel if len(job.params) <= parallel else max(1, parallel - 1))
        ]
        return min(ready, key=lambda job: (clients[job.client], jobs[job]), default=None)

    def _start_choice(self, job: GenerationJob) -> None:
        now = perf_counter()
        if not job.started:
            job.deadline = now + self._time_limit
            self._metrics.queue_s.observe(now - job.submitted)
        index, deadline, cancelled = job.started, job.deadline, job.cancelled.is_set
        job.started += 1
        choice = self._model.begin(
            job.params[index], lambda: cancelled() or perf_counter() > deadline
        )
        self._running[choice] = job, index

    def _deliver(self, choice: RunningChoice, update: Delta | Done | LocalmtpError) -> None:
        job, index = self._running[choice]
        if not isinstance(update, Delta):
            with self._changed:
                del self._running[choice]
        if isinstance(update, Done):
            self._metrics.count_calls(update.calls, update.unparsed_calls)
        if isinstance(update, LocalmtpError):
            status = 400 if isinstance(update, UnsatisfiableError) else 500
            param = "response_format" if status == 400 else None
            self._fail(job, index, APIError(status, update.message, param=param))
        elif not job.cancelled.is_set():
            job.deliver(index, update)
        elif isinstance(update, Done):  # cancelled by `cut`, or the client has disconnected
            job.deliver(index, JobFailed(shutting_down()))

    def _fail(self, job: GenerationJob, index: int, error: APIError) -> None:
        """Report an error to the client and cancel the job's other choices."""
        if not job.cancelled.is_set():
            job.deliver(index, JobFailed(error))
            self.cancel(job)

    def _fail_all(self, error: APIError) -> None:
        self._model.give_up()
        with self._changed:
            failed = list(self._running.values())
            self._running.clear()
        for job, index in failed:
            self._fail(job, index, error)

    def _report(self) -> None:
        self._metrics.waiting.set(sum(not job.started for job in self._waiting))
        self._metrics.running.set(len({job for job, _ in self._running.values()}))


def shutting_down() -> APIError:
    """503: the request arrived too late, or was cut off."""
    return APIError(503, "the server is shutting down", code="shutting_down")
