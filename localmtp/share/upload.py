"""Putting files into a repository on the hub, in a way that can be taken up again.

`HfApi.upload_folder` sends what the hub lacks: content that has arrived is not sent again, so an
interrupted upload goes on when it is repeated. `upload_large_folder` is deprecated in its favour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

# Exported lazily, which type checkers do not follow.
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    disable_progress_bars,
    logging,
    validate_repo_id,
)

from localmtp.errors import LocalmtpError
from localmtp.share.contents import CARD

# What happens is told by our own lines; the client would print its warnings between them.
logging.set_verbosity_error()  # type: ignore[no-untyped-call]

_LOG_IN = "run `hf auth login`, or set HF_TOKEN to a token that may write"


@dataclass(frozen=True, slots=True)
class Shared:
    """Where an upload went."""

    url: str
    private: bool


def require_repository_name(repo: str) -> None:
    """Refuse what the hub would refuse.

    Raises:
        LocalmtpError: it is not `USER/REPO`.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as fault:
        raise _not_a_name(repo) from fault
    if "/" not in repo:
        raise _not_a_name(repo)


def upload(
    files: Sequence[Path], card: str, repo: str, *, public: bool, show_progress: bool = False
) -> Shared:
    """Upload a card and files, making the repository when it is not there.

    The card goes first: what is wrong with it shows before hours of upload.

    Args:
        files: of one directory.
        card: the README.md.
        repo: `USER/REPO`.
        public: whether everybody may see it; one that is there already keeps what it has.
        show_progress: let the client draw its bars on standard error.

    Raises:
        LocalmtpError: there is no token, the repository is public and that was not asked for, or
            the hub refuses or cannot be reached.
    """
    if not get_token():
        raise LocalmtpError("the hub takes files from known users only", hint=_LOG_IN)
    if not show_progress:
        disable_progress_bars()
    api = HfApi()
    with _explained(repo):
        api.create_repo(repo, private=not public, exist_ok=True)
        private = bool(api.model_info(repo).private)
        if not private and not public:
            raise LocalmtpError(
                f"{repo} is there already, and public",
                hint="--public if everybody may see these files; else choose another name",
            )
        message = "Upload with localmtp"
        api.upload_file(
            path_or_fileobj=card.encode(),
            path_in_repo=CARD,
            repo_id=repo,
            commit_message=message,
        )
        api.upload_folder(
            repo_id=repo,
            folder_path=files[0].parent,
            allow_patterns=[escape(file.name) for file in files],
            commit_message=message,
        )
    return Shared(f"{constants.ENDPOINT}/{repo}", private)


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn the client's faults into one line; it wraps those of uploads in RuntimeErrors."""
    try:
        yield
    except (httpx.HTTPError, OfflineModeIsEnabled, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise _explanation(cause, repo) from error


def _explanation(fault: BaseException, repo: str) -> LocalmtpError:
    again = "run the same command again: what has arrived is not sent twice"
    match fault:
        case OfflineModeIsEnabled():
            return LocalmtpError("HF_HUB_OFFLINE is set", hint="unset it to share files")
        case RepositoryNotFoundError():
            return LocalmtpError(f"the hub knows no {repo}, or not this token", hint=_LOG_IN)
        case BadRequestError():
            return LocalmtpError(f"the hub does not take the files of {repo}: {fault}")
        case HfHubHTTPError(response=response) if response.status_code in (401, 402, 403):
            return LocalmtpError(
                f"the hub does not let you write to {repo} (status {response.status_code})",
                hint=f"check that it is yours; {_LOG_IN}",
            )
        case HfHubHTTPError(response=response):
            return LocalmtpError(
                f"the hub did not take everything (status {response.status_code})", hint=again
            )
        case httpx.HTTPError():
            name = fault or type(fault).__name__
            return LocalmtpError(f"cannot reach {constants.ENDPOINT}: {name}", hint=again)
        case _:
            return LocalmtpError(f"the upload failed: {fault}", hint=again)


def _not_a_name(repo: str) -> LocalmtpError:
    return LocalmtpError(f"{repo!r} is not a repository name", hint="write USER/REPO")
