"""`localmtp run`: one answer to standard output."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli import output
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.options import (
    check_exact,
    choices,
    exact_option,
    generation_options,
    load_options,
    pair_options,
)
from localmtp.cli.server_options import check_flags, connect, server_options
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.engine.decoding.trace import Round
    from localmtp.engine.events import Event, Finished, Piece
    from localmtp.session import Session


_MODEL_NAME = re.compile(r"nano|gemma4-\S+|\S+\.gguf|[\w.-]+/[\w.:-]+|/\S+", re.IGNORECASE)
"""What a lone argument must look like to be taken for a model instead of a prompt."""


@click.command("run", short_help="One answer to standard output.")
@click.argument("model", required=False)
@click.argument("prompt", required=False)
@server_options
@pair_options
@generation_options
@exact_option
@click.option("--raw", is_flag=True, help="No chat template: the prompt as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write every round of drafting and verifying as JSON lines.",
)
def command(
    model: str | None,
    prompt: str | None,
    raw: bool,
    as_json: bool,
    trace: Path | None,
    **flags: Any,
) -> int:
    """Answer PROMPT, streaming, with statistics on standard error.

    PROMPT comes from standard input when it is `-` or missing. A single argument is the PROMPT,
    unless it names a model.

    \b
    localmtp run "Count from 1 to 20."
    localmtp run gemma4-e4b "Why is the sky blue?"
    localmtp run nano --json < prompt.txt
    localmtp run --server http://127.0.0.1:8080 "Why is the sky blue?"
    """  # noqa: D301 - click reads the character
    check_flags()
    check_exact(flags)
    if model is not None and prompt is None and not _MODEL_NAME.fullmatch(model):
        model, prompt = None, model
    text = _read_stdin() if prompt in (None, "-") else prompt
    assert text is not None
    if not text.strip():
        raise LocalmtpError("the prompt is empty", hint='give one: localmtp run "Hello"')
    rounds: list[Round] = []
    session = (
        connect(model, flags) if flags["server"] else _load(model, flags, rounds if trace else None)
    )
    try:
        signal.signal(signal.SIGINT, _stop_then_abort(session))
        events = session.complete(text) if raw else session.ask(text)
        pieces, finished = _follow(events, stream=not as_json)
    finally:
        session.close()
    if as_json:
        output.line(json.dumps(_report(session, pieces, finished), ensure_ascii=False))
    else:
        output.line()
        click.echo(output.dim(statistics_line(finished)), err=True)
    if trace and rounds:
        from localmtp.bench.lab.pacing.trace_file import write_rounds

        write_rounds(trace, rounds)
    next(events, None)  # where a lost server is told: what came of its answer is out
    return INTERRUPTED if finished.reason == "cancelled" else 0


def _load(model: str | None, flags: dict[str, Any], rounds: list[Round] | None) -> Session:
    from localmtp.cli.progress import Downloads
    from localmtp.engine.decoding.trace import Trace
    from localmtp.models import resolve
    from localmtp.session.local import open_session

    with Downloads() as progress:
        files = resolve(
            model, drafter=flags["drafter"], offline=flags["offline"], progress=progress
        )
    for warning in files.warnings:
        click.echo(f"warning: {warning}", err=True)
    session = open_session(files, choices(flags), load_options(flags))
    if session.placement:
        click.echo(output.dim(session.placement), err=True)
    if rounds is not None:
        session.trace = Trace(rounds.append)
    return session


def _read_stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise LocalmtpError("there is no prompt", hint='give one: localmtp run "Hello"')
    data = sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise LocalmtpError(
            f"standard input is not valid UTF-8 (byte {error.start})",
            hint="convert it first, for example with iconv",
        ) from error


def _stop_then_abort(session: Session) -> Callable[[int, FrameType | None], None]:
    """The first Ctrl-C ends the answer and keeps it, the second ends the program."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        session.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return handle


def _follow(events: Iterator[Event], *, stream: bool) -> tuple[list[Piece], Finished]:
    """Print the answer as it comes; thoughts go to the terminal alone."""
    from localmtp.engine.events import Channel, Finished, Generated

    pieces: list[Piece] = []
    for event in events:
        if isinstance(event, Finished):
            return pieces, event
        if isinstance(event, Generated):
            pieces.extend(event.pieces)
            if stream:
                said = {c: "".join(p.text for p in event.pieces if p.channel is c) for c in Channel}
                output.aside(said[Channel.THOUGHT])
                output.text(said[Channel.ANSWER])
    raise AssertionError("generation ended without a Finished event")


def _report(session: Session, pieces: list[Piece], finished: Finished) -> dict[str, object]:
    """The JSON object of the command line's contract."""
    from localmtp.engine.events import Channel

    stats = finished.stats
    return {
        "model": session.name,
        "drafter": session.drafter_name,
        "text": "".join(p.text for p in pieces if p.channel is Channel.ANSWER),
        "thought": "".join(p.text for p in pieces if p.channel is Channel.THOUGHT),
        # Other servers do not tell them.
        "token_ids": [p.token_id for p in pieces if p.token_id >= 0],
        "finish_reason": finished.reason,
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
        "stats": stats.as_dict(),
    }


_ENDINGS = {"length": "cut at the limit", "cancelled": "stopped", "lost": "cut: server lost"}


def statistics_line(finished: Finished) -> str:
    """An answer in one line: speed first, then what drafting did for it."""
    s = finished.stats
    parts = [f"{s.decode_tokens_per_s:.1f} tokens/s", f"{s.completion_tokens} tokens"]
    if s.drafted:
        parts += [
            f"{s.tokens_per_pass:.2f} per pass",
            f"{s.acceptance_rate:.0%} of {s.drafted} drafted tokens accepted",
        ]
    if s.drafting != "on":
        parts.append(f"drafting {s.drafting}")
    parts.append(f"first token after {s.ttft_s:.2f} s")
    if s.threads < s.most_threads:
        parts.append(f"{s.threads} of {s.most_threads} threads: the processor is busy")
    if finished.reason in _ENDINGS:
        parts.append(_ENDINGS[finished.reason])
    return " · ".join(parts)
