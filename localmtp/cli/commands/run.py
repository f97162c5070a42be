"""`localmtp run`: one answer on standard output."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

import localmtp
from localmtp.cli import output
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.flags.combined import check_dry, check_raw, check_thinking
from localmtp.cli.flags.template import template_option
from localmtp.cli.loading import find_model
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import (
    GenerationFlags,
    PairFlags,
    generation_options,
    pair_options,
    projector_options,
)
from localmtp.cli.output_file import check_output, force_option, is_trace
from localmtp.cli.prompt import MediaFlags, media_options, whole_prompt
from localmtp.cli.server_options import ServerFlags, check_flags, server_options

if TYPE_CHECKING:
    from localmtp import LanguageModel, Reply
    from localmtp.engine.decoding.trace import Round
    from localmtp.engine.events import Event, Finished, Piece
    from localmtp.engine.stats import Stats


_MODEL_NAME = re.compile(r"nano|gemma4-\S+|\S+\.gguf|[\w.-]+/[\w.:-]+|/\S+", re.IGNORECASE)
"""Pattern of a single argument that is a model, not a prompt."""


class _RunCommand(click.Command):
    """Explains how to give a prompt that looks like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.format_message()} A prompt that begins with a dash goes behind `--`, "
                'as in: localmtp run nano -- "-1 + 1 ="',
                ctx,
            ) from error


@click.command("run", cls=_RunCommand, short_help="One answer on standard output.")
@click.argument("model", type=MODEL, required=False)
@click.argument("prompt", required=False)
@click.option("-m", "--model", "model_option", type=MODEL, help="The same as MODEL.")
@server_options
@projector_options
@template_option
@pair_options
@generation_options
@media_options
@click.option("--raw", is_flag=True, help="No chat template: feed the prompt unchanged.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write every round of drafting and verification as JSON lines.",
)
@force_option
def command(
    model: str | None,
    prompt: str | None,
    model_option: str | None,
    remote: ServerFlags,
    pair: PairFlags,
    generation: GenerationFlags,
    media: MediaFlags,
    raw: bool,
    as_json: bool,
    trace: Path | None,
    force: bool,
) -> int:
    """Stream an answer to PROMPT, with statistics on standard error.

    PROMPT is read from standard input if it is `-` or missing; if there is both, standard input
    follows PROMPT. A single argument is the PROMPT unless it names a model.

    \b
        localmtp run "Count from 1 to 20."
        localmtp run gemma4-e4b "Why is the sky blue?"
        localmtp run nano --json < prompt.txt
        localmtp run -m gemma4-e4b "Summarize:" < report.txt
        localmtp run gemma4-e4b "What is this?" --image photo.jpg
        localmtp run --server http://127.0.0.1:8080 "Why is the sky blue?"
    """  # noqa: D301 - click reads the character
    check_flags()
    check_thinking()
    check_dry()
    model, prompt = _model_and_prompt(model, prompt, model_option)
    if raw:
        check_raw()
    if media and raw:
        raise click.UsageError("--raw has no place for images or sound")
    text = whole_prompt(prompt, stdin_is_taken=media.reads_stdin, may_be_empty=bool(media))
    files = media.load()
    if trace:
        check_output(trace, force=force, is_ours=is_trace)
    rounds: list[Round] = []
    with _open(model, remote, pair, rounds.append if trace else None) as language_model:
        if raw:
            reply = language_model.complete(text, **generation.completion_options())
        else:
            reply = language_model.chat(text, media=files, **generation.chat_options())
        signal.signal(signal.SIGINT, _stop_then_abort(reply))
        pieces, finished = _follow(reply, stream=not as_json)
        if as_json:
            report = _report(language_model, pieces, finished)
            output.line(json.dumps(report, ensure_ascii=False))
        else:
            output.line()
            output.note(statistics_line(finished), dim=True)
        if trace and rounds:
            from localmtp.bench.lab.pacing.trace_file import write_rounds

            write_rounds(trace, rounds)
        next(reply, None)  # raises if a server was lost; its answer so far is printed
    return INTERRUPTED if finished.reason == "cancelled" else 0


def _open(
    model: str | None,
    remote: ServerFlags,
    pair: PairFlags,
    on_round: Callable[[Round], None] | None,
) -> LanguageModel:
    if remote.server:
        return localmtp.connect(remote.server, model, api_key=remote.api_key or "")
    files = find_model(model, pair)
    loaded = localmtp.load(
        files,
        ctx=pair.ctx,
        threads=pair.threads,
        gpu_layers=pair.gpu_layers,
        devices=pair.devices,
        kv_type=pair.kv_type,
        batch=pair.batch,
        image_tokens=pair.image_tokens,
        chat_template=pair.chat_template,
        on_round=on_round,
    )
    for warning in loaded.warnings[len(files.warnings) :]:
        output.warning(warning)
    if loaded.placement:
        output.note(loaded.placement, dim=True)
    return loaded


def _model_and_prompt(
    first: str | None, second: str | None, option: str | None
) -> tuple[str | None, str | None]:
    """Return the model and the prompt of the arguments and `--model`."""
    if option is not None:
        if second is not None:
            raise click.UsageError("MODEL is given twice: as an argument and with --model")
        return option, first
    if second is None and first is not None and not _MODEL_NAME.fullmatch(first):
        return None, first
    return first, second


def _stop_then_abort(reply: Reply) -> Callable[[int, FrameType | None], None]:
    """Return a handler: the first Ctrl-C ends the answer, the second one the program."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        reply.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return handle


def _follow(events: Iterator[Event], *, stream: bool) -> tuple[list[Piece], Finished]:
    """Collect the answer, printed while it is generated; thoughts only on a terminal."""
    from localmtp.engine.events import Channel, Finished, Generated

    pieces: list[Piece] = []
    for event in events:
        if isinstance(event, Finished):
            return pieces, event
        if isinstance(event, Generated):
            pieces.extend(event.pieces)
            if stream:
                said = {c: "".join(p.text for p in event.pieces if p.channel is c) for c in Channel}
                output.thought(said[Channel.THOUGHT])
                output.text(said[Channel.ANSWER])
    raise AssertionError("generation ended without a Finished event")


def _report(model: LanguageModel, pieces: list[Piece], finished: Finished) -> dict[str, object]:
    """Return the object that `--json` prints."""
    from localmtp.engine.events import Channel

    stats = finished.stats
    return {
        "model": model.name,
        "drafter": model.drafter_name,
        "text": "".join(p.text for p in pieces if p.channel is Channel.ANSWER),
        "thought": "".join(p.text for p in pieces if p.channel is Channel.THOUGHT),
        # Unknown from other servers.
        "token_ids": [p.token_id for p in pieces if p.token_id >= 0],
        "finish_reason": finished.reason,
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
        "stats": stats.as_dict(),
    }


_ENDINGS = {
    "repeat": "cut: it repeated itself",
    "length": "cut at the limit",
    "cancelled": "stopped",
    "lost": "cut: server lost",
}
"""Ends of an answer that the statistics name."""


def statistics_line(finished: Finished) -> str:
    """Return an answer's statistics as one line: speed first, then drafting."""
    s = finished.stats
    count = s.completion_tokens
    parts = ["1 token" if count == 1 else f"{count} tokens"]
    if s.decode_tokens_per_s:
        parts.insert(0, f"decode {s.decode_tokens_per_s:.1f} tok/s")
    if s.drafted:
        parts += [
            f"{s.tokens_per_pass:.2f} tokens/pass",
            f"acceptance {100 * s.acceptance_rate:.0f} % of {s.drafted} drafted",
        ]
    if s.drafting != "on" or s.drafting_note:
        parts.append(f"drafting {s.drafting}" + (f": {s.drafting_note}" if s.drafting_note else ""))
    if s.media:
        parts.append(_media_words(s))
    if s.ttft_s:
        first = f"{1000 * s.ttft_s:.0f} ms" if s.ttft_s < 1 else f"{s.ttft_s:.2f} s"
        parts.append(f"time to first token {first}")
    if s.prefill_tokens_per_s:
        parts.append(f"prompt {s.prefill_tokens_per_s:.0f} tok/s")
    if s.threads < s.most_threads:
        parts.append(f"{s.threads} of {s.most_threads} threads: the processor is busy")
    if s.thought_cut:
        parts.append(f"thought cut, {s.thought_tokens} tokens with its end")
    if finished.reason in _ENDINGS:
        parts.append(_ENDINGS[finished.reason])
    return " · ".join(parts)


def _media_words(stats: Stats) -> str:
    """Return the tokens of images and sounds, and the time that encoding took."""
    words = f"{stats.media_tokens} media tokens"
    return f"{words}, encoded in {stats.encode_s:.2f} s" if stats.encoded_tokens else words
