"""What the hub's cache holds, found without the network and without importing its client.

The layout is huggingface_hub's: `models--USER--REPO/snapshots/REVISION/FILE`, links into `blobs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from localmtp.models.naming.registry import Source
from localmtp.paths import hub_cache


def repository_folder(repo: str) -> Path:
    """Where the files of a model repository are."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def cached_files(repo: str) -> Iterator[tuple[str, Path]]:
    """The GGUF files of a repository that are on disk: name in the repository, and path.

    Those of the revision that `main` was last seen at come first, then newer before older ones.
    A link whose blob is gone does not count.
    """
    folder = repository_folder(repo)
    main = folder / "refs" / "main"
    revision = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    snapshots = [s for s in folder.glob("snapshots/*") if s.is_dir()]
    snapshots.sort(key=lambda s: (s.name == revision, s.stat().st_mtime), reverse=True)
    seen = set()
    for snapshot in snapshots:
        for path in sorted(snapshot.rglob("*.gguf")):
            name = path.relative_to(snapshot).as_posix()
            if name not in seen and path.is_file():
                seen.add(name)
                yield name, path


def cached(source: Source) -> Path | None:
    """A file of the hub on this machine; None when it is not here."""
    for name, path in cached_files(source.repo):
        if fnmatchcase(name, source.file):
            return path
    return None


def cached_repositories() -> list[str]:
    """Every model repository in the cache, `USER/REPO`."""
    folders = hub_cache().glob("models--*--*")
    return sorted(f.name.removeprefix("models--").replace("--", "/", 1) for f in folders)
