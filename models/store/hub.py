"""The Hugging Face hub: files of a repository, and the header of a file in it.

Faults of the network and of huggingface_hub become a `LocalmtpError` that says what to do.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

import httpx
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

# Exported lazily, which type checkers do not follow.
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    logging,
)

from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import BadHeaderError, CutOffError, Header, parse_header
from localmtp.proxies import ignore_for_loopback, proxy_error

# localmtp reports faults itself; warnings of the client would be printed in between.
logging.set_verbosity_error()  # type: ignore[no-untyped-call]

ignore_for_loopback(constants.ENDPOINT)

T = TypeVar("T")

_SHA256 = re.compile("[0-9a-f]{64}")
_REVISION = re.compile("[0-9a-f]{7,64}|main")

FAULTS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    OfflineModeIsEnabled,
    # From a server that is not the hub, or from a proxy that httpx cannot use.
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
)
"""Exceptions of the hub's client, for `hub_error`."""

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_WAITS_S = (0.5, 1.0, 2.0, 4.0)
_LONGEST_WAIT_S = 60.0

# Bytes requested. Settings of Gemma 4 are in the first 20 kB; where the vocabulary precedes them,
# 15 MB are needed.
_HEADER_PARTS = (1 << 18, 1 << 25)


class NotTheHubError(ValueError):
    """Something else answers instead of the hub: a gateway that wants a login, for example."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at a revision."""

    repo: str
    revision: str
    name: str
    nbytes: int
    sha256: str
    """Empty for files that are not in the hub's large file storage."""

    @property
    def url(self) -> str:
        """Download address, at `HF_ENDPOINT`."""
        return hf_hub_url(self.repo, self.name, revision=self.revision)

    def __str__(self) -> str:
        return f"{self.repo}/{self.name}"


def gguf_files(repo: str) -> list[RemoteFile]:
    """Lists the GGUF files of a repository at its newest revision.

    Raises:
        LocalmtpError: there is no such repository, no access to it, or no connection.
    """
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    request = partial(HfApi().model_info, repo, files_metadata=True, timeout=timeout)
    try:
        info = with_retries(request)
        files = [_listed(repo, info.sha, file) for file in info.siblings or []]
    except FAULTS as fault:
        raise hub_error(fault, repo) from fault
    return [file for file in files if file.name.lower().endswith(".gguf")]


def _listed(repo: str, revision: str | None, file: RepoSibling) -> RemoteFile:
    """Checks an entry of a listing: the client passes on whatever JSON it received.

    Raises:
        NotTheHubError: it is no entry of the hub.
        TypeError: a value has another type.
    """
    name, nbytes = file.rfilename, file.size or 0
    revision = revision or constants.DEFAULT_REVISION
    sha256 = (file.lfs.sha256 if file.lfs else None) or ""
    if not (_REVISION.fullmatch(revision) and isinstance(nbytes, int) and 0 <= nbytes < 1 << 63):
        raise NotTheHubError(f"revision {revision!r:.60}, {nbytes!r:.30} bytes")
    # Names that leave the folder are none that localmtp could use.
    return RemoteFile(
        repo,
        revision,
        name if _stays_inside(name) else "",
        nbytes,
        sha256 if _SHA256.fullmatch(sha256) else "",
    )


def _stays_inside(name: str) -> bool:
    """Reports whether a name from the network stays below its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def remote_header(file: RemoteFile, *, settings_only: bool = True) -> Header:
    """Reads the header of a file on the hub from its first bytes.

    Args:
        file: the file.
        settings_only: leave out vocabulary and tensors, which are megabytes.

    Raises:
        LocalmtpError: it is not a GGUF file, or could not be reached.
    """
    fault: BadHeaderError = CutOffError()
    for size in _HEADER_PARTS:
        try:
            data = with_retries(partial(_first_bytes, file, size))
            return parse_header(data, file.nbytes, settings_only=settings_only)
        except CutOffError as more_needed:
            fault = more_needed
        except BadHeaderError as bad:
            fault = bad
            break
        except FAULTS as unreachable:
            raise hub_error(unreachable, file.repo) from unreachable
    raise LocalmtpError(f"{file} {fault}", hint="nothing was downloaded") from fault


def _first_bytes(file: RemoteFile, size: int) -> bytes:
    data = bytearray()
    with bytes_from(file, 0, min(size, file.nbytes)) as response:
        # A server that ignores the range sends the whole file.
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) >= size:
                break
    return bytes(data)


@contextmanager
def bytes_from(file: RemoteFile, start: int, end: int) -> Iterator[httpx.Response]:
    """Requests the bytes `start` to `end` of a file.

    A server may ignore the range and send the whole file, with status 200.

    Raises:
        HfHubHTTPError: the hub refuses.
        TransportError: the connection fails.
        NotTheHubError: a page for a browser is sent instead.
    """
    headers = build_hf_headers() | {
        "Range": f"bytes={start}-{end - 1}",
        "Accept-Encoding": "identity",
    }
    # Longest silence, in seconds.
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", file.url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise NotTheHubError
        yield response


def with_retries(action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """Calls `action`, and retries after connection faults, rate limits and server errors.

    Args:
        action: a request over the network.
        progress: bytes received so far; while it grows, retries are not limited.

    Raises:
        Exception: the last exception of `action`.
    """
    tries, reached = 0, progress()
    while True:
        try:
            return action()
        except (httpx.TransportError, HfHubHTTPError) as fault:
            if progress() > reached:
                tries, reached = 0, progress()
            if tries == len(_WAITS_S) or not _is_transient(fault):
                raise
            time.sleep(_pause(fault, _WAITS_S[tries]))
            tries += 1


def _is_transient(fault: httpx.TransportError | HfHubHTTPError) -> bool:
    return isinstance(fault, httpx.TransportError) or fault.response.status_code in _TRANSIENT


def _pause(fault: httpx.TransportError | HfHubHTTPError, otherwise: float) -> float:
    requested = "" if isinstance(fault, httpx.TransportError) else _retry_after(fault)
    return min(float(requested), _LONGEST_WAIT_S) if requested.isdecimal() else otherwise


def _retry_after(fault: HfHubHTTPError) -> str:
    return str(fault.response.headers.get("Retry-After", ""))


def hub_error(fault: Exception, repo: str) -> LocalmtpError:
    """Returns the error to report for a fault of the hub's client."""
    match fault:
        case OfflineModeIsEnabled():
            return LocalmtpError(
                f"{repo} is not on this machine, and HF_HUB_OFFLINE is set",
                hint="unset HF_HUB_OFFLINE to download it",
            )
        case HFValidationError():
            return LocalmtpError(f"{repo!r} is not a repository name", hint="write USER/REPO")
        case GatedRepoError():
            return LocalmtpError(
                f"{repo} is gated: accept its terms first",
                hint=f"accept them at {constants.ENDPOINT}/{repo}, then run `hf auth login` "
                "or set HF_TOKEN",
            )
        case RepositoryNotFoundError():
            return LocalmtpError(
                f"there is no {repo} on the hub, or it is private",
                hint="check the name; a private repository needs `hf auth login` or HF_TOKEN",
            )
        case EntryNotFoundError():
            return LocalmtpError(f"a file of {repo} is gone from the hub", hint="try again")
        case HfHubHTTPError(response=response) if response.status_code in (401, 403):
            return LocalmtpError(
                f"the hub refuses access to {repo} (status {response.status_code})",
                hint="check HF_TOKEN, or `hf auth login`",
            )
        case HfHubHTTPError(response=response):
            return LocalmtpError(
                f"the hub cannot serve {repo} now (status {response.status_code})",
                hint="try again later; the download will resume",
            )
        case (
            ImportError()
            | ValueError()
            | KeyError()
            | TypeError()
            | AttributeError()
            | (httpx.InvalidURL())
        ):
            return proxy_error() or LocalmtpError(
                f"{constants.ENDPOINT} does not respond as the Hugging Face hub does",
                hint="the network may require a login in a browser; or check HF_ENDPOINT",
            )
        case _:
            return LocalmtpError(
                f"cannot reach {constants.ENDPOINT}: {fault or type(fault).__name__}",
                hint="check the connection; the download will resume",
            )
