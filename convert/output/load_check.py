"""Check that a file works: libllama loads and runs it in a child process.

libllama ends its process when an assertion fails. It must not end this one, which has temporary
files to remove.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.portability import how_it_ended


def check_runs(path: Path, threads: int, target: Path | None = None) -> None:
    """Load a model and run it over a few tokens; a drafter runs on its target.

    Args:
        path: the GGUF file, or the first part of a split model.
        threads: number of compute threads.
        target: the drafter's target; without it, a drafter is loaded and not run.

    Raises:
        LocalmtpError: libllama cannot load or run it, or a logit is not finite.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-P",  # the working directory may have modules with the same names
            "-m",
            "localmtp.engine.smoke_test",
            str(threads),
            path,
            target or "",
        ],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "GGML_NO_BACKTRACE": "1"},
    )
    if done.returncode == 0:
        return
    if done.returncode == 1 and done.stdout:
        raise LocalmtpError(done.stdout.strip())
    *_, reason = ["no reason given", *done.stderr.splitlines()]
    how = how_it_ended(done.returncode)
    raise LocalmtpError(f"{path} cannot be run: libllama aborted ({how}, {reason})")
