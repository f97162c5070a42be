"""Runs the program as a real process."""

import subprocess
import sys
from typing import Any


def localmtp(
    *arguments: str, stdin: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localmtp", *arguments],
        input=stdin.decode(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
