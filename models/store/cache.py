"""Contents of the hub's cache, read without the network and without importing its client.

The layout is huggingface_hub's: `models--USER--REPO/snapshots/REVISION/FILE`, links into `blobs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from localmtp.models.naming.registry import HubFile
from localmtp.paths import hub_cache

_COMMIT = re.compile("[0-9a-f]{40}")


def repository_folder(repo: str) -> Path:
    """Returns the folder of a model repository in the cache."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def cached_files(repo: str) -> Iterator[tuple[str, Path]]:
    """Yields the cached GGUF files of a repository: name in the repository, and path.

    Files of the revision that `main` last pointed to come first, then newer snapshots before older
    ones. Links whose blob is missing are skipped.
    """
    folder = repository_folder(repo)
    revision = ""
    with suppress(OSError):
        revision = _main(repo).read_text("utf-8", "replace").strip()
    snapshots = [s for s in folder.glob("snapshots/*") if s.is_dir()]
    snapshots.sort(key=lambda s: (s.name == revision, s.stat().st_mtime), reverse=True)
    seen = set()
    for snapshot in snapshots:
        for path in sorted(snapshot.rglob("*.gguf")):
            name = path.relative_to(snapshot).as_posix()
            if name not in seen and path.is_file():
                seen.add(name)
                yield name, path


def _main(repo: str) -> Path:
    return repository_folder(repo) / "refs" / "main"


def discard_damaged_reference(repo: str) -> None:
    """Removes `refs/main` unless it is a commit hash: huggingface_hub fails on anything else."""
    main = _main(repo)
    with suppress(OSError, UnicodeDecodeError):
        if _COMMIT.fullmatch(main.read_text("ascii").strip()):
            return
    with suppress(OSError):
        if main.is_dir():
            main.rmdir()
        else:
            main.unlink(missing_ok=True)


def cached(source: HubFile) -> Path | None:
    """Returns the path of a file of the hub; None if it is not in the cache."""
    for name, path in cached_files(source.repo):
        if fnmatchcase(name, source.file):
            return path
    return None


def cached_repositories() -> list[str]:
    """Returns the model repositories in the cache, as `USER/REPO`."""
    folders = hub_cache().glob("models--*--*")
    return sorted(f.name.removeprefix("models--").replace("--", "/", 1) for f in folders)
