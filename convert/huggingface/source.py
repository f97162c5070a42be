"""Where a checkpoint is: a directory, or a repository on the Hugging Face hub."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from localmtp.errors import LocalmtpError

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

_NEEDED = ("*.json", "*.jinja", "model*.safetensors", "README.md")
"""No pickles, and no copy of the weights in another layout."""


@dataclass(frozen=True, slots=True)
class Located:
    """A checkpoint on this machine."""

    directory: Path
    name: str
    """What its directory or repository is called."""
    repo: str | None
    """`USER/REPO`, when it came from the hub."""


def locate(source: str | Path, *, offline: bool = False) -> Located:
    """Find a checkpoint, downloading it into the hub's cache when it is a repository.

    Args:
        source: a directory, or `USER/REPO`.
        offline: use the cache alone.

    Raises:
        LocalmtpError: there is no such directory or repository, or no way to it.
    """
    path = Path(source)
    if isinstance(source, str) and not path.exists() and _REPOSITORY.fullmatch(source):
        return Located(_download(source, offline=offline), source.partition("/")[2], source)
    return Located(path, path.resolve().name, None)


def _download(repo: str, *, offline: bool) -> Path:
    import httpx
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

    # The client draws its bars into logs and pipes as well.
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        found = snapshot_download(repo, allow_patterns=list(_NEEDED), local_files_only=offline)
    except GatedRepoError:
        raise LocalmtpError(
            f"{repo} asks for its licence to be accepted",
            hint=f"accept it at https://huggingface.co/{repo}, then run `hf auth login`",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise LocalmtpError(
            f"there is no directory and no repository {repo}",
            hint="for a private one, run `hf auth login` first",
        ) from None
    except LocalEntryNotFoundError:
        raise LocalmtpError(
            f"{repo} is not on this machine and the hub cannot be reached",
            hint="connect and try again, or give a directory",
        ) from None
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise LocalmtpError(f"{repo} cannot be downloaded: {error}") from error
    if not any(Path(found).glob("model*.safetensors")):
        raise LocalmtpError(
            f"{repo} has no model*.safetensors" + (" on this machine" if offline else ""),
            hint="pickled weights (.bin) are not downloaded: they can run code when they are read",
        )
    return Path(found)
