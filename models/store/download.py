"""Downloading files of the hub into its standard cache.

huggingface_hub restarts a file after its process was killed, and does not check hashes. So files
are transferred here, next to their final place, resumed after any interruption, and checked; then
huggingface_hub itself adds them to its cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    FileMetadataError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.file_download import are_symlinks_supported
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

from localmtp.errors import LocalmtpError
from localmtp.models.store.cache import discard_damaged_reference, repository_folder
from localmtp.models.store.hub import (
    FAULTS,
    NotTheHubError,
    RemoteFile,
    bytes_from,
    hub_error,
    with_retries,
)
from localmtp.paths import hub_cache

_CHUNK = 1 << 20
_NO_SUCH_RANGE = 416
# Disk space that a download leaves free.
_SPARE = 1 << 28


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """Progress of all transfers, in bytes."""

    file: str
    done: int
    total: int
    done_in_all: int
    total_in_all: int


ProgressCallback = Callable[[TransferProgress], None]


def download(
    files: Sequence[RemoteFile],
    progress: ProgressCallback | None = None,
    *,
    verify: bool = False,
) -> list[Path]:
    """Downloads files into the cache, unless they are in it with the right size.

    Args:
        files: the files.
        progress: called after every chunk.
        verify: compute the hashes of cached files too, and download damaged ones again.

    Returns:
        Their paths, in the same order.

    Raises:
        LocalmtpError: not enough disk space, no write access, no connection, or a file whose size
            or hash is not the hub's.
    """
    _check_sizes(files)
    _check_space(files)
    in_all = sum(file.nbytes for file in files)
    before, paths = 0, []
    for file in files:

        def report(done: int, file: RemoteFile = file, before: int = before) -> None:
            if progress:
                progress(TransferProgress(str(file), done, file.nbytes, before + done, in_all))

        with _localmtp_errors(file.repo):
            paths.append(_fetch(file, report, verify=verify))
        before += file.nbytes
    return paths


def _fetch(file: RemoteFile, report: Callable[[int], None], *, verify: bool) -> Path:
    """Downloads a file; a process that requests it at the same time waits for this one."""
    if file.sha256:
        blob = _blob(file)
        lock = hub_cache() / ".locks" / repository_folder(file.repo).name / f"{file.sha256}.lock"
        for needed in (blob, _partial(file), lock):
            needed.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if verify and _size(blob) == file.nbytes and _sha256(blob) != file.sha256:
                blob.unlink()
            if _size(blob) != file.nbytes:
                _transfer_all(file, blob, report)
    report(file.nbytes)
    discard_damaged_reference(file.repo)
    path = _entered(file)
    if path.stat().st_size != file.nbytes:
        # Not in the large file storage, so the client alone downloads it, and trusts its cache.
        path = _entered(file, force_download=True)
    return path


def _entered(file: RemoteFile, *, force_download: bool = False) -> Path:
    """Has huggingface_hub enter a file into its cache, and returns the path there."""
    return Path(
        with_retries(lambda: hf_hub_download(file.repo, file.name, force_download=force_download))
    )


def _transfer_all(file: RemoteFile, blob: Path, report: Callable[[int], None]) -> None:
    partial = _partial(file)
    if _size(partial) < _size(blob) < file.nbytes:
        blob.replace(partial)  # cut short: resumed like an interrupted download
    blob.unlink(missing_ok=True)
    if _size(partial) > file.nbytes:
        partial.unlink()
    resumed = _size(partial) > 0
    digest = _transferred(file, partial, report)
    if digest != file.sha256 and resumed:
        partial.unlink()  # perhaps only the old part of it is damaged
        digest = _transferred(file, partial, report)
    if digest != file.sha256:
        words = f"{file} arrived damaged: its hash is {digest[:12]}…, not {file.sha256[:12]}…"
        raise _discarded(partial, words)
    partial.replace(blob)


def _transferred(file: RemoteFile, partial: Path, report: Callable[[int], None]) -> str:
    """Downloads the missing part of a file, and returns the SHA-256 of the whole."""
    if _size(partial) < file.nbytes:
        try:
            with_retries(lambda: _transfer(file, partial, report), progress=lambda: _size(partial))
        except HfHubHTTPError as fault:
            if fault.response.status_code == _NO_SUCH_RANGE:
                raise _discarded(partial, f"{file} is shorter than the hub says") from fault
            raise
    return _sha256(partial)


def _sha256(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _discarded(partial: Path, reason: str) -> LocalmtpError:
    partial.unlink()
    return LocalmtpError(
        f"{reason}; it was discarded",
        hint="try again; if it happens twice, a proxy or the mirror is at fault",
    )


def _transfer(file: RemoteFile, partial: Path, report: Callable[[int], None]) -> None:
    """Appends the missing bytes; starts over if the server ignores ranges."""
    start = _size(partial)
    with bytes_from(file, start, file.nbytes) as response:
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        with partial.open("ab" if resumed else "wb") as out:
            for chunk in response.iter_bytes(_CHUNK):
                out.write(chunk)
                report(out.tell())
    if _size(partial) < file.nbytes:
        raise httpx.RemoteProtocolError("the server sent less than the file")
    os.truncate(partial, file.nbytes)


def _check_sizes(files: Sequence[RemoteFile]) -> None:
    for file in files:
        if file.nbytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise LocalmtpError(
                f"{file} has {file.nbytes / 1e9:.0f} GB, more than the hub serves over HTTP",
                hint=f"`hf download {file.repo} {file.name}` puts it into the same cache",
            )


def bytes_missing(files: Sequence[RemoteFile]) -> int:
    """Returns the number of bytes still to be downloaded."""
    return sum(
        max(0, file.nbytes - max(_size(_partial(file)), _size(_blob(file)))) for file in files
    )


def _check_space(files: Sequence[RemoteFile]) -> None:
    needed = bytes_missing(files)
    folder = hub_cache()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed and needed + _SPARE > free:
        raise LocalmtpError(
            f"not enough disk space: {needed / 1e9:.2f} GB are needed, "
            f"{free / 1e9:.2f} GB are free at {folder}",
            hint="`localmtp rm MODEL` frees space; HF_HOME moves the cache elsewhere",
        )


def _blob(file: RemoteFile) -> Path:
    """Path at which huggingface_hub expects the bytes.

    Where there are no symbolic links, as often on Windows, that is the snapshot itself: the client
    would copy a blob there, and never remove it.
    """
    folder = repository_folder(file.repo)
    if _has_links(hub_cache()):
        return folder / "blobs" / (file.sha256 or "-")
    return folder / "snapshots" / file.revision / file.name


def _has_links(cache: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a page on Windows' developer mode
        with suppress(OSError):  # reported when the cache is written
            return are_symlinks_supported(cache)
        return True


def _partial(file: RemoteFile) -> Path:
    # scan_cache_dir and `hf cache prune` recognize leftovers by this folder and suffix.
    return repository_folder(file.repo) / "blobs" / f"{file.sha256}.localmtp.incomplete"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _localmtp_errors(repo: str) -> Iterator[None]:
    """Turns faults of the network and the disk into a LocalmtpError."""
    try:
        yield
    except LocalEntryNotFoundError as fault:
        # The client fell back to its cache, which has no such file; the cause is the first fault.
        cause = fault.__cause__
        raise hub_error(cause if isinstance(cause, Exception) else fault, repo) from fault
    except (httpx.HTTPError, OfflineModeIsEnabled) as fault:
        raise hub_error(fault, repo) from fault
    except FileMetadataError as fault:
        raise hub_error(NotTheHubError(), repo) from fault
    except OSError as fault:
        raise LocalmtpError(
            f"cannot write {fault.filename or hub_cache()}: {fault.strerror or fault}",
            hint="HF_HOME moves the cache elsewhere; the download will resume",
        ) from fault
    except FAULTS as fault:
        raise hub_error(fault, repo) from fault
