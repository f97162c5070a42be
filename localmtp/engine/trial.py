"""Trial loads: files are loaded and run in a child process, which libllama may end.

libllama aborts its process when an assertion fails. That must not happen to a process that serves,
or has files to clean up.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from localmtp.engine.llama.vocabulary_file import VocabularyFile
from localmtp.errors import LocalmtpError
from localmtp.portability import how_it_ended

_SMALL = 1 << 28
"""Bytes of a file for which one thread is enough."""

_LIMIT_S = 10.0
"""CPU time of a trial; a small file takes less than one second."""

_BYTES_PER_S = 20e6
"""Additional time for large files: far slower than any disk and any processor in use."""

_PATIENCE_S = 60.0
"""Additional wall time, for a busy machine."""

Source = tuple[Path, VocabularyFile | None]
"""A GGUF file, and the vocabulary to load instead of its own."""


def try_loading(model: Source, target: Source | None = None, *, threads: int | None = None) -> None:
    """Loads a model and runs it over a few tokens; a drafter runs on its target.

    Args:
        model: a target or drafter; of a model in several parts, the first.
        target: the target of a drafter; without it, a drafter is loaded and not run.
        threads: number of compute threads; None to choose.

    Raises:
        LocalmtpError: libllama cannot load or run one of the files, exceeds the time limit, or a
            logit is not finite.
    """
    order: dict[str, object] = {"model": _dumped(model), "target": target and _dumped(target)}
    _try(order, [each[0] for each in (model, target) if each], threads)


def try_encoding(projector: Path, target: Source, *, threads: int | None = None) -> None:
    """Loads a projector and encodes a small image, and a second of sound, for its target.

    Args:
        projector: with one or both kinds of encoders.
        target: loaded, not run.
        threads: number of compute threads; None to choose.

    Raises:
        LocalmtpError: libmtmd cannot load or run it, exceeds the time limit, or its output is not
            finite.
    """
    order: dict[str, object] = {"projector": str(projector), "target": _dumped(target)}
    _try(order, [projector, target[0]], threads)


def _try(order: dict[str, object], files: Sequence[Path], threads: int | None) -> None:
    """Runs the smoke test; the first of the files is the one to test."""
    nbytes = sum(path.stat().st_size for path in files)
    threads = threads or (1 if nbytes < _SMALL else os.cpu_count() or 1)
    seconds = _LIMIT_S + nbytes / _BYTES_PER_S
    order |= {"threads": threads, "cpu_s": int(seconds * threads) + 1}
    command = [sys.executable, "-P", "-m", "localmtp.engine.smoke_test", json.dumps(order)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "GGML_NO_BACKTRACE": "1",
    }
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=seconds + _PATIENCE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise _not_loaded(files[0], "libllama does not come to an end") from error
    if done.returncode:
        raise _failure(done, files[0])


def _dumped(source: Source) -> dict[str, object]:
    path, vocabulary = source
    dumped: dict[str, object] = {"path": str(path)}
    if vocabulary:
        dumped["vocabulary"] = {
            "path": str(vocabulary.path),
            "architecture": vocabulary.architecture,
            "size": vocabulary.size,
        }
    return dumped


def _failure(done: subprocess.CompletedProcess[str], model: Path) -> LocalmtpError:
    """Interprets the lines of the smoke test: `trying PATH` and `error MESSAGE`."""
    path = str(model)
    for line in done.stdout.splitlines():
        kind, _, text = line.partition(" ")
        if kind == "error":
            return LocalmtpError(text)
        path = text
    how = how_it_ended(done.returncode)
    if "XCPU" in how or "SIGKILL" in how:
        return _not_loaded(Path(path), f"libllama does not come to an end ({how})")
    *_, reason = ["no reason given", *filter(None, done.stderr.splitlines())]
    reason = re.sub(r"^\S*/(?=[\w.-]+:\d+: )", "", reason)  # the folder that libllama was built in
    return _not_loaded(Path(path), f"libllama aborted ({how}, {reason})")


def _not_loaded(path: Path, reason: str) -> LocalmtpError:
    return LocalmtpError(f"{path} cannot be run: {reason}", hint="download or convert it again")
