"""Errors that clients receive, in the formats of OpenAI, Anthropic and Ollama."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response


class APIError(Exception):
    """An error with an HTTP status.

    Args:
        status: HTTP status code.
        message: one line.
        param: the field of the request that caused it, if any.
        code: identifier that programs can test for.
        headers: added to the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """JSON object of the response, or of an event in a stream, in OpenAI's format."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, _kind(self.status)),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self, path: str = "") -> Response:
        """HTTP response, in the format of the API at this path.

        In ASCII: the message may quote invalid Unicode of the request.
        """
        body = self.body()
        if path.startswith("/v1/messages"):
            body = self.anthropic_body()
        elif path.startswith("/api/"):  # Ollama's
            body = {"error": self.message}
        return Response(json.dumps(body), self.status, self.headers, media_type="application/json")

    def anthropic_body(self) -> dict[str, object]:
        """The same in Anthropic's format."""
        default = "api_error" if self.status >= 500 else "invalid_request_error"
        kind = _ANTHROPIC_TYPES.get(self.status, default)
        return {"type": "error", "error": {"type": kind, "message": self.message}}


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def _kind(status: int) -> str:
    return "server_error" if status >= 500 else "invalid_request_error"
