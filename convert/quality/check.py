"""The proof that a file works: libllama loads it and runs it, in a process of its own.

Where libllama finds what it takes for impossible it ends its process, and that must not be this
one, which has files to remove.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.portability import how_it_ended


def check(path: Path, threads: int, target: Path | None = None) -> None:
    """Load a model and run it over a few tokens; a drafter runs on its target.

    Args:
        path: the GGUF file; of a model in parts, the first.
        threads: to run it on.
        target: a drafter's; without it, a drafter is only loaded.

    Raises:
        LocalmtpError: libllama refuses it, or its logits are not finite.
    """
    done = subprocess.run(
        # The folder that the user is in may hold modules of the same names.
        [
            sys.executable,
            "-P",
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
    raise LocalmtpError(f"{path} cannot be run: libllama gave up ({how}, {reason})")
