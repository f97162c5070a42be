"""Uploading files to a repository on the hub.

`HfApi.upload_folder` skips content that the hub already has, so repeating an interrupted upload
resumes it. `upload_large_folder` is deprecated in its favour.
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
from localmtp.proxies import ignore_for_loopback, proxy_error
from localmtp.share.contents import CARD

# localmtp reports faults itself; warnings of the client would be printed in between.
logging.set_verbosity_error()  # type: ignore[no-untyped-call]

ignore_for_loopback(constants.ENDPOINT)

_LOG_IN = "run `hf auth login`, or set HF_TOKEN to a token that may write"


@dataclass(frozen=True, slots=True)
class Upload:
    """A finished upload."""

    url: str
    private: bool


def require_repository_name(repo: str) -> None:
    """Checks a repository name as the hub does.

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
) -> Upload:
    """Uploads a model card and files; creates the repository if it is missing.

    The card is uploaded first, so that errors in it show before hours of upload.

    Args:
        files: in one directory.
        card: content of the README.md.
        repo: `USER/REPO`.
        public: whether a new repository is public; the visibility of an existing one is unchanged.
        show_progress: whether the client draws progress bars on standard error.

    Raises:
        LocalmtpError: there is no token, the repository is public and `public` is false, or the
            hub refuses or cannot be reached.
    """
    if not get_token():
        raise LocalmtpError("uploading needs a token", hint=_LOG_IN)
    if not show_progress:
        disable_progress_bars()
    api = HfApi()
    with _localmtp_errors(repo):
        api.create_repo(repo, private=not public, exist_ok=True)
        private = bool(api.model_info(repo).private)
        if not private and not public:
            raise LocalmtpError(
                f"{repo} exists already, and is public",
                hint="pass --public if these files may be public; else choose another name",
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
    return Upload(f"{constants.ENDPOINT}/{repo}", private)


@contextmanager
def _localmtp_errors(repo: str) -> Iterator[None]:
    """Turns faults of the client into a LocalmtpError; those of uploads are in RuntimeErrors."""
    try:
        yield
    except (httpx.HTTPError, OfflineModeIsEnabled, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise _upload_error(cause, repo) from error


def _upload_error(fault: BaseException, repo: str) -> LocalmtpError:
    again = "run the same command again to resume"
    match fault:
        case OfflineModeIsEnabled():
            return LocalmtpError("HF_HUB_OFFLINE is set", hint="unset it to share files")
        case RepositoryNotFoundError():
            return LocalmtpError(f"there is no {repo} on the hub for this token", hint=_LOG_IN)
        case BadRequestError():
            return LocalmtpError(f"the hub rejected the files of {repo}: {fault}")
        case HfHubHTTPError(response=response) if response.status_code in (401, 402, 403):
            return LocalmtpError(
                f"you may not write to {repo} (status {response.status_code})",
                hint=f"check its owner, or {_LOG_IN}",
            )
        case HfHubHTTPError(response=response):
            return LocalmtpError(
                f"the upload is incomplete (status {response.status_code})", hint=again
            )
        case httpx.HTTPError():
            name = fault or type(fault).__name__
            return LocalmtpError(f"cannot reach {constants.ENDPOINT}: {name}", hint=again)
        case _:
            return proxy_error() or LocalmtpError(f"the upload failed: {fault}", hint=again)


def _not_a_name(repo: str) -> LocalmtpError:
    return LocalmtpError(f"{repo!r} is not a repository name", hint="write USER/REPO")
