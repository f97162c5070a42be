"""Sends responses: one JSON object, or a stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf

from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from localmtp.serve.errors import APIError
from localmtp.serve.generation.job import GenerationJob, GenerationParams
from localmtp.serve.generation.worker import Worker
from localmtp.serve.wire.writers import Choice, ResponseWriter, Usage

_INTERVAL_S = 0.02
"""Between two events of a stream: 50 per second read as continuous, and fast models decode hundreds
of passes in that time."""


async def respond(
    request: Request,
    worker: Worker,
    params: list[GenerationParams],
    writer: ResponseWriter,
    per_prompt: int,
) -> Response:
    """Generate and send the response as one JSON object; a disconnect frees the slots.

    Args:
        request: watched for a disconnect.
        worker: runs the job.
        params: one entry per choice.
        writer: formats the response.
        per_prompt: choices per prompt, for the usage.

    Raises:
        APIError: see `Worker.submit` and `GenerationJob.updates`.
    """
    job = GenerationJob(params, client=_client(request), interval_s=inf)
    worker.submit(job)
    choices = [Choice() for _ in params]

    async def collect() -> None:
        async for index, update in job.updates():
            choices[index].add(update)

    collecting = asyncio.ensure_future(collect())
    disconnect = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({collecting, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            return Response(status_code=499)  # never read; counted in the metrics
        await collecting
    finally:
        collecting.cancel()
        disconnect.cancel()
        worker.cancel(job)
    return JSONResponse(writer.whole(choices, Usage.of(choices, per_prompt)))


def respond_streaming(
    request: Request,
    worker: Worker,
    params: list[GenerationParams],
    writer: ResponseWriter,
    per_prompt: int,
) -> Response:
    """Send the response as server-sent events while it is generated.

    Raises:
        APIError: see `Worker.submit`; later errors become an event of the stream.
    """
    job = GenerationJob(params, client=_client(request), interval_s=_INTERVAL_S)
    worker.submit(job)
    events = _events(job, writer, per_prompt)
    return _EventStream(worker, job, events, writer.media_type)


class _EventStream(StreamingResponse):
    """A stream that cancels its job when the client disconnects."""

    def __init__(
        self, worker: Worker, job: GenerationJob, events: AsyncIterator[str], media_type: str
    ) -> None:
        super().__init__(events, media_type=media_type, headers={"Cache-Control": "no-store"})
        self._worker = worker
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._worker.cancel(self._job)


async def _events(
    job: GenerationJob, writer: ResponseWriter, per_prompt: int
) -> AsyncIterator[str]:
    choices = [Choice() for _ in job.params]
    for event in writer.begin(len(choices)):
        yield event
    try:
        async for index, update in job.updates():
            choices[index].add(update)
            for event in writer.update(index, update):
                yield event
    except APIError as error:
        for event in writer.failed(error):
            yield event
        return
    for event in writer.end(Usage.of(choices, per_prompt)):
        yield event


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
