"""The ASGI application: routes, error handlers and middleware."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localmtp import __version__
from localmtp.serve.dialects.anthropic_requests import CountTokensRequest, MessagesRequest
from localmtp.serve.dialects.ollama_models import VERSION, shown, tag
from localmtp.serve.dialects.ollama_requests import (
    OllamaChatRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)
from localmtp.serve.dialects.responses_requests import ResponsesRequest
from localmtp.serve.errors import APIError
from localmtp.serve.guards import AccessGuard, BodyGuard
from localmtp.serve.metrics import Metrics
from localmtp.serve.service import Service
from localmtp.serve.wire.requests import ChatRequest, CompletionRequest

_PATHS = (
    "/v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, /v1/models, and Ollama's "
    "/api/chat, /api/generate, /api/tags, /api/show and /api/version"
)
_SMALLEST_BODY_LIMIT = 1 << 20
_BYTES_PER_TOKEN = 64
"""More than any prompt that fits the context needs, including JSON escapes."""


_MEDIA_BODY = 64 << 20
"""Added where requests may have images and sounds: 48 MB of files in base64."""

_BODIES = 128 << 20
"""Maximum size of all bodies that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Access:
    """Access control."""

    key: str | None = None
    """API key; None: only requests to a loopback name are accepted."""
    origins: Sequence[str] = ()
    """Allowed CORS origins."""


def create_app(service: Service, access: Access) -> FastAPI:
    """Create the application.

    Args:
        service: handles the requests; closed on shutdown.
        access: access control.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        # Here, because uvicorn ends the process by the signal that it caught.
        service.close()

    app = FastAPI(
        title="localmtp", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    _add_routes(app, service)
    app.add_exception_handler(APIError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    most = max(_SMALLEST_BODY_LIMIT, _BYTES_PER_TOKEN * service.model.context_size)
    if service.model.media:
        most += _MEDIA_BODY
    app.add_middleware(BodyGuard, most=most, most_together=max(most, _BODIES))
    app.add_middleware(AccessGuard, key=access.key)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(_Counting, metrics=service.metrics)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    model = service.model
    card = {
        "id": model.name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "localmtp",
        "context_length": model.context_size,
        "input_modalities": ["text", *model.media],
    }

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await service.chat(body, request)

    @app.post("/v1/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        return await service.complete(body, request)

    @app.post("/v1/responses")
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        return await service.responses(body, request)

    @app.get("/v1/responses/{response_id}")
    async def stored_response(response_id: str) -> dict[str, Any]:
        stored = service.stored.get(response_id)
        if stored is None:
            raise APIError(404, f"response {response_id[:100]!r} is not stored here")
        return stored.response

    @app.post("/v1/messages")
    async def messages(body: MessagesRequest, request: Request) -> Response:
        return await service.messages(body, request)

    @app.post("/v1/messages/count_tokens")
    async def count_tokens(body: CountTokensRequest) -> dict[str, int]:
        return {"input_tokens": await service.count_tokens(body)}

    @app.post("/api/chat")
    async def ollama_chat(body: OllamaChatRequest, request: Request) -> Response:
        return await service.ollama_chat(body, request)

    @app.post("/api/generate")
    async def ollama_generate(body: OllamaGenerateRequest, request: Request) -> Response:
        return await service.ollama_generate(body, request)

    @app.get("/api/tags")
    @app.get("/api/ps")
    async def ollama_tags() -> dict[str, Any]:
        return {"models": [tag(model)]}

    @app.post("/api/show")
    async def ollama_show(body: OllamaShowRequest) -> dict[str, Any]:
        name = (body.model or body.name).removesuffix(":latest")
        if name != model.name:
            raise APIError(404, f"model {name[:100]!r} is not served here")
        return shown(model)

    @app.get("/api/version")
    async def ollama_version() -> dict[str, str]:
        return {"version": VERSION, "localmtp": __version__}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        if name != model.name:
            raise APIError(404, f"model {name[:100]!r} is not served here", code="model_not_found")
        return card

    @app.get("/health")
    async def health(response: Response) -> dict[str, str]:
        stalled = service.worker.stalled
        response.status_code = 503 if stalled else 200
        return {
            "status": "stalled" if stalled else "ok",
            "model": model.name,
            "drafter": model.drafter_name,
            "drafting": model.drafting,
        }

    @app.get("/props")
    async def props() -> dict[str, Any]:
        """Properties in the form of llama.cpp's server."""
        modalities = {"vision": "image" in model.media, "audio": "audio" in model.media}
        return {
            "model_alias": model.name,
            "default_generation_settings": {"n_ctx": model.context_size},
            "total_slots": model.parallel,
            "modalities": modalities,
            "chat_template_caps": {"supports_tools": model.knows_tools},
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, APIError)
    return error.response(request.url.path)


async def _invalid(request: Request, error: Exception) -> Response:
    """Report the first validation error, without repeating the body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        message = f"the body is not valid JSON: {first['ctx']['error']}"
        return await _api_error(request, APIError(400, message))
    if len(first["loc"]) < 2:
        message = "the body must be a JSON object, with the header `Content-Type: application/json`"
        return await _api_error(request, APIError(400, message))
    _, field, *inner = first["loc"]
    # Pydantic adds the branch of a union to the path: `str`, `list[...]`.
    where = ".".join([field, *(str(s) for s in inner if isinstance(s, int) or _is_field(s))])
    unknown = first["type"] == "extra_forbidden"
    message = f"unknown field: {where}" if unknown else f"{where}: {first['msg']}"
    return await _api_error(request, APIError(400, message, param=field))


def _is_field(step: str) -> bool:
    return step.isidentifier() and step not in ("str", "int")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"{request.url.path[:100]} does not exist; the API has {_PATHS}"
    return await _api_error(request, APIError(error.status_code, message, headers=error.headers))


async def _bug(request: Request, _error: Exception) -> Response:
    return await _api_error(request, APIError(500, "internal error; see the log of the server"))


class _Counting:
    """Counts responses by status, including those of the guards."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting if scope["type"] == "http" else send)
