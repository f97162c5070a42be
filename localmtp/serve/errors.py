"""Errors that clients receive, in the format of OpenAI's API."""

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
        """JSON object of the response, or of an event in a stream."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, _kind(self.status)),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        """HTTP response, in ASCII: the message may quote invalid Unicode of the request."""
        return Response(
            json.dumps(self.body()), self.status, self.headers, media_type="application/json"
        )


_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def _kind(status: int) -> str:
    return "server_error" if status >= 500 else "invalid_request_error"
