"""What servers refuse, as one line for people."""

from __future__ import annotations

import httpx

from localmtp.errors import LocalmtpError

KEY_HINT = "give a key with --api-key, or in LOCALMTP_API_KEY"


class LostError(LocalmtpError):
    """The answer ended before it was complete; what came of it is kept."""


def refused(response: httpx.Response) -> LocalmtpError:
    """What a response that is no success says; its body has been read."""
    where, status = response.url, response.status_code
    said = _message(response) or response.reason_phrase
    if status in (401, 403):
        return LocalmtpError(f"{where} refuses the API key: {said}", hint=KEY_HINT)
    hint = "the server is still loading: try again soon" if status == 503 else ""
    return LocalmtpError(f"{where} answers {status}: {said}", hint=hint)


def broken(error: httpx.RequestError, url: str) -> LocalmtpError:
    """What a failed connection means."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return LocalmtpError(f"cannot connect to {url}: {error}", hint="is the server running?")
    if isinstance(error, httpx.ReadTimeout):
        return LostError(f"{url} has said nothing for too long")
    return LostError(f"the connection to {url} broke: {error}")


def _message(response: httpx.Response) -> str:
    """OpenAI's `error.message`, or what servers send in its place."""
    try:
        body = response.json()
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    error = body.get("error", body.get("detail", body))
    message = error.get("message", "") if isinstance(error, dict) else error
    return str(message)
