"""Other engines to compare with: a running server, or llama.cpp's server started here."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep

import httpx

from localmtp.engine.drafters.model_drafter import ModelDrafter
from localmtp.engine.pair import Pair
from localmtp.errors import LocalmtpError
from localmtp.models import ModelFiles
from localmtp.remote.session import open_remote
from localmtp.session import Choices, Session

SERVER_LENGTHS = (3,)
"""Draft lengths of a program by default: llama.cpp's own."""

_START_S = 600.0
"""Seconds for a server to load a model."""

_POLL_S = 0.2


@contextmanager
def opponents(
    against: str,
    files: ModelFiles,
    pair: Pair,
    choices: Choices,
    lengths: Sequence[int] = SERVER_LENGTHS,
    *,
    name: str = "",
) -> Iterator[dict[str, Session]]:
    """Yields sessions with another engine, by name.

    Args:
        against: the URL of a server, which runs what its owner started; or the program
            `llama-server`, which is started with the same files, without drafts and at every
            draft length.
        files: target and drafter.
        pair: loaded from them; a program has its threads and its context.
        choices: of the answers.
        lengths: draft lengths of a program, above 0.
        name: of the engine; by default that of the server's model, or `llama-server`.

    Raises:
        LocalmtpError: there is no such server or program, or it does not start.
    """
    with ExitStack() as resources:
        if against.startswith(("http://", "https://")):
            session: Session = open_remote(against, None, choices)
            resources.callback(session.close)
            yield {name or f"server {session.name}": session}
            return
        sessions: dict[str, Session] = {}
        for n, command in _commands(against, files, pair, lengths).items():
            session = open_remote(resources.enter_context(_running(command)), None, choices)
            resources.callback(session.close)
            sessions[f"{name or 'llama-server'} {n}"] = session
        yield sessions


def _commands(
    program: str, files: ModelFiles, pair: Pair, lengths: Sequence[int]
) -> dict[int, Sequence[str]]:
    """Returns commands that start a program, by draft length."""
    found = shutil.which(program)
    if found is None:
        raise LocalmtpError(
            f"{program} is neither the URL of a server nor a program",
            hint="name a server like http://127.0.0.1:8080, or the path of llama-server",
        )
    threads, context = str(pair.target.threads.most), str(pair.target.n_ctx)
    plain = [found, "-m", str(files.target), "-t", threads, "-c", context, "-np", "1"]
    plain += ["--jinja", "--no-webui"]
    commands: dict[int, Sequence[str]] = {0: plain}
    if files.drafter:
        kind = "draft-simple" if isinstance(pair.drafter, ModelDrafter) else "draft-mtp"
        drafting = ["--spec-type", kind]
        if files.drafter_file:
            drafting += ["-md", str(files.drafter_file), "-td", threads]
        for n in lengths:
            commands[n] = [*plain, *drafting, "--spec-draft-n-max", str(n)]
    return commands


@contextmanager
def _running(command: Sequence[str]) -> Iterator[str]:
    """Runs a server on a free port and yields its URL.

    Raises:
        LocalmtpError: the server does not start; with the last line that it wrote.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, ends = f"http://127.0.0.1:{port}", monotonic() + _START_S
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        ) as process,
    ):
        try:
            while not _is_healthy(url):
                if process.poll() is not None or monotonic() > ends:
                    log.seek(0)
                    *_, last = [line for line in log.read().splitlines() if line.strip()] or [""]
                    reason = f": {last.strip()[:300]}" if last else ""
                    raise LocalmtpError(f"{command[0]} does not start{reason}")
                sleep(_POLL_S)
            yield url
        finally:
            process.terminate()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False
