"""Check that a file works: libllama loads and runs it in a child process."""

from __future__ import annotations

from pathlib import Path

from localmtp.engine.trial import try_loading


def check_runs(path: Path, threads: int, target: Path | None = None) -> None:
    """Loads a model and runs it over a few tokens; a drafter or MTP head runs on its target.

    Args:
        path: the GGUF file, or the first part of a split model.
        threads: number of compute threads.
        target: the drafter's target; `path` itself for a head in the file; without it, a
            drafter is loaded and not run.

    Raises:
        LocalmtpError: libllama cannot load or run it, or a logit is not finite.
    """
    try_loading((path, None), (target, None) if target else None, threads=threads)
