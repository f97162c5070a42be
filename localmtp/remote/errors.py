"""Errors of servers and connections, as one line each."""

from __future__ import annotations

import httpx

from localmtp.errors import LocalmtpError
from localmtp.remote import json_input

KEY_HINT = "pass a key with `--api-key` or in LOCALMTP_API_KEY"


class LostError(LocalmtpError):
    """The connection or the server failed during an answer; the partial answer is retained."""


def response_error(response: httpx.Response) -> LocalmtpError:
    """Convert an error response whose body has been read."""
    where, status = response.url, response.status_code
    message = _message(response) or response.reason_phrase
    if status in (401, 403):
        return LocalmtpError(f"{where} rejects the API key: {message}", hint=KEY_HINT)
    hint = "the server is still loading the model; try again soon" if status == 503 else ""
    return LocalmtpError(f"{where} responds with {status}: {message}", hint=hint)


def connection_error(error: httpx.RequestError, url: str) -> LocalmtpError:
    """Convert an error of a connection."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return LocalmtpError(f"cannot connect to {url}: {error}", hint="is the server running?")
    if isinstance(error, httpx.ReadTimeout):
        return LostError(f"timeout: {url} sent nothing for too long")
    return LostError(f"the connection to {url} failed: {error}")


def _message(response: httpx.Response) -> str:
    """OpenAI's `error.message`, or the equivalent of other servers."""
    try:
        body = json_input.parsed(response.content)
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    error = body.get("error", body.get("detail", body))
    message = error.get("message", "") if isinstance(error, dict) else error
    return str(message)[:1000]
