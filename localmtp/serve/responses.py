"""Carrying out a request: one JSON object, or a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from math import inf

from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from localmtp.serve.errors import APIError
from localmtp.serve.generation.tasks import Task
from localmtp.serve.generation.tickets import Ticket
from localmtp.serve.generation.worker import Worker
from localmtp.serve.wire.shapes import Answer, Json, Shape, usage_of

_GATHER_S = 0.02
"""Between two events of a stream: fifty a second read as one flow, and fast models make hundreds of
passes in that time."""


async def whole(
    request: Request, worker: Worker, tasks: Sequence[Task], shape: Shape, per_prompt: int
) -> Response:
    """Answer when everything is generated; a client that goes before frees its slot.

    Raises:
        APIError: see `Ticket`.
    """
    ticket = Ticket(worker, tasks, gather_s=inf)
    answers = [Answer() for _ in tasks]

    async def collect() -> None:
        async for index, update in ticket.updates():
            answers[index].add(update)

    collecting = asyncio.ensure_future(collect())
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            return Response(status_code=499)  # nobody reads it; the access log shows why
        await collecting
    finally:
        collecting.cancel()
        leaving.cancel()
        ticket.cancel()
    return JSONResponse(shape.whole(answers) | {"usage": usage_of(answers, per_prompt)})


def stream(
    worker: Worker, tasks: Sequence[Task], shape: Shape, per_prompt: int, *, with_usage: bool
) -> Response:
    """Answer as it is generated.

    Raises:
        APIError: see `Ticket`; what fails later becomes an event.
    """
    ticket = Ticket(worker, tasks, gather_s=_GATHER_S)
    return _EventStream(ticket, _events(ticket, len(tasks), shape, per_prompt, with_usage))


class _EventStream(StreamingResponse):
    """A stream that gives its order up when the client is gone."""

    def __init__(self, ticket: Ticket, events: AsyncIterator[str]) -> None:
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ticket.cancel()


async def _events(
    ticket: Ticket, choices: int, shape: Shape, per_prompt: int, with_usage: bool
) -> AsyncIterator[str]:
    answers = [Answer() for _ in range(choices)]
    for index in range(choices):
        if opening := shape.opening(index):
            yield _event(opening)
    try:
        async for index, update in ticket.updates():
            answers[index].add(update)
            yield _event(shape.chunk(index, update))
    except APIError as error:
        yield _event(error.body())
        return
    if with_usage:
        yield _event(shape.last(usage_of(answers, per_prompt)))
    yield "data: [DONE]\n\n"


def _event(data: Json) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
