"""Checkpoint sources: a directory, or a repository on the Hugging Face hub."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from localmtp.errors import LocalmtpError

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

_PATTERNS = ("*.json", "*.jinja", "model*.safetensors", "README.md")
"""Files to download: no pickles, and no second copy of the weights in another layout."""


@dataclass(frozen=True, slots=True)
class LocatedCheckpoint:
    """A checkpoint on this machine."""

    directory: Path
    name: str
    """Name of its directory or repository."""
    repo: str | None
    """`USER/REPO` if it was downloaded from the hub."""


def locate(source: str | Path, *, offline: bool = False) -> LocatedCheckpoint:
    """Find a checkpoint; a repository is downloaded into the hub's cache.

    Args:
        source: a directory, or `USER/REPO`.
        offline: use the cache only.

    Raises:
        LocalmtpError: no such repository exists, or it cannot be downloaded.
    """
    path = Path(source)
    try:
        exists = path.exists()
    except OSError as error:  # such as a name that is too long
        raise LocalmtpError(f"cannot read {str(source)[:80]}: {error.strerror}") from error
    if isinstance(source, str) and not exists and _REPOSITORY.fullmatch(source):
        directory = _download(source, offline=offline)
        return LocatedCheckpoint(directory, source.partition("/")[2], source)
    return LocatedCheckpoint(path, path.resolve().name, None)


def _download(repo: str, *, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    # Exported lazily, which type checkers do not follow.
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    # The client would draw its bars into logs and pipes too.
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        found = snapshot_download(repo, allow_patterns=list(_PATTERNS), local_files_only=offline)
    except GatedRepoError:
        raise LocalmtpError(
            f"{repo} requires you to accept its licence",
            hint=f"accept it at https://huggingface.co/{repo}, then run `hf auth login`",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise LocalmtpError(
            f"no directory or repository is called {repo}",
            hint="for a private repository, run `hf auth login` first",
        ) from None
    except LocalEntryNotFoundError:
        raise LocalmtpError(
            f"{repo} is not cached on this machine and the hub cannot be reached",
            hint="connect and try again, or give a directory",
        ) from None
    except OSError as error:
        if isinstance(error, HfHubHTTPError):
            raise LocalmtpError(f"cannot download {repo}: {error}") from error
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LocalmtpError(
            f"cannot download {repo}: {reason}", hint="check the connection and the proxy settings"
        ) from error
    if not any(Path(found).glob("model*.safetensors")):
        raise LocalmtpError(
            f"{repo} has no model*.safetensors" + (" in the local cache" if offline else ""),
            hint="pickled weights (.bin) are not downloaded: they can run code when loaded",
        )
    return Path(found)
