"""`localmtp bench compare --against`: measure MODEL and another engine on the same prompts."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli import output
from localmtp.cli.bench.options import ReportFlags, RunFlags, WorkloadFlags, with_no_drafting
from localmtp.cli.bench.progress import show_progress
from localmtp.cli.bench.report import setup_of, show
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.loading import load_model
from localmtp.cli.options import GenerationFlags, PairFlags
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.against import Contest, ContestAnswer, Standing
    from localmtp.bench.report import Table

_OWN = "localmtp "
"""Beginning of the names of localmtp's contestants, which the draft length follows."""


def compare_engines(
    model: str,
    against: tuple[str, ...],
    server_lengths: list[int | None],
    pair_flags: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    workload: WorkloadFlags,
    run: RunFlags,
    report: ReportFlags,
) -> int:
    """Measures and prints a report.

    Args:
        model: as the user wrote it.
        against: URLs of servers, and programs to start.
        server_lengths: draft lengths of programs.
        pair_flags: how to find and load the model.
        lengths: draft lengths of localmtp; None is automatic pacing.
        generation: how answers are generated.
        workload: which prompts.
        run: how often.
        report: the form of the report.

    Returns:
        The exit code.

    Raises:
        LocalmtpError: the model cannot be loaded, or a server cannot be reached or started.
    """
    from localmtp.bench.against import Contest, as_rows, standings
    from localmtp.bench.opponents import opponents
    from localmtp.bench.report import machine_as_json
    from localmtp.session import Session
    from localmtp.session.local import LocalSession, default_sampling

    # Without a handler, SIGTERM would leave the programs running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    choices = generation.choices()
    files, pair = load_model(model, pair_flags)
    with ExitStack() as resources:
        resources.enter_context(pair)
        contestants: dict[str, tuple[Session, int | None]] = {}
        for n in with_no_drafting(lengths) if files.drafter or files.lookup else [0]:
            session = LocalSession(pair, files, choices)
            contestants[_named(n)] = session, n
        drafts, several = [n for n in server_lengths if n], len(set(against)) > 1
        for each in against:
            name = each if several else ""
            found = resources.enter_context(
                opponents(each, files, pair, choices, drafts, name=name)
            )
            contestants |= {name: (session, None) for name, session in found.items()}
        temperatures = [generation.temp or 0.0]
        if run.sampled:
            temperatures.append(default_sampling(pair).temperature)
        contest = Contest(
            workload.chosen(files.name),
            contestants,
            temperatures,
            generation.max_tokens or 256,
            run.repeats,
        )
        answers, interrupted = _collected(contest)
        setup = setup_of(files, pair_flags.threads, pair)
    found_standings = standings(contest, answers)
    if not found_standings:
        output.note("stopped before a prompt was answered by everyone")
        return INTERRUPTED
    result: dict[str, Any] = {
        **machine_as_json(setup),
        "standings": [as_rows(standing) for standing in found_standings],
        "ratios": _ratios(answers, found_standings),
    }
    show(setup, result, _tables(found_standings, result["ratios"]), report)
    return INTERRUPTED if interrupted else 0


def _named(n_draft: int | None) -> str:
    return f"{_OWN}{'auto' if n_draft is None else n_draft}"


def _collected(contest: Contest) -> tuple[list[ContestAnswer], bool]:
    from localmtp.bench.against import contest_answers

    answers: list[ContestAnswer] = []
    began = perf_counter()
    try:
        for answer in contest_answers(contest):
            answers.append(answer)
            show_progress(len(answers), contest.answers, "answers", perf_counter() - began)
    except KeyboardInterrupt:
        return answers, True
    finally:
        if answers and output.shows_progress():
            click.echo(err=True)
    return answers, False


def _ratios(answers: list[ContestAnswer], found: list[Standing]) -> list[dict[str, Any]]:
    """Compares localmtp with everyone else: its automatic draft length, or else the fastest."""
    from localmtp.bench.against import ratios

    listed = []
    for standing in found:
        ours = _ours(found, standing.temperature)
        if ours and standing.contestant != ours:
            quartiles = ratios(answers, ours, standing.contestant, standing.temperature)
            if quartiles:
                listed.append(
                    {
                        "temperature": standing.temperature,
                        "of": ours,
                        "to": standing.contestant,
                        **dict(zip(("q1", "median", "q3"), quartiles, strict=True)),
                    }
                )
    return listed


def _ours(found: list[Standing], temperature: float) -> str | None:
    """Returns localmtp's contestant to compare with the others; None if it has no answers."""
    own = [s for s in found if s.temperature == temperature and s.contestant.startswith(_OWN)]
    if any(s.contestant == _named(None) for s in own):
        return _named(None)
    return max(own, key=lambda s: s.tokens_per_s).contestant if own else None


def _tables(found: list[Standing], ratios: list[dict[str, Any]]) -> list[Table]:
    from localmtp.bench.report import Table

    shown = []
    for temperature in dict.fromkeys(standing.temperature for standing in found):
        sampling = "greedy" if temperature == 0 else f"temperature {temperature:g}"
        by_name = {r["to"]: r for r in ratios if r["temperature"] == temperature}
        ours = next((r["of"] for r in by_name.values()), None)
        rows = [
            (
                standing.contestant,
                f"{standing.tokens_per_s:.1f}",
                _spread(standing.quartiles),
                "" if standing.acceptance_rate is None else f"{standing.acceptance_rate:.0%}",
                "" if standing.tokens_per_pass is None else f"{standing.tokens_per_pass:.2f}",
                f"{1e3 * standing.ttft_s:.0f} ms",
                *([_ratio(by_name.get(standing.contestant))] if ours else []),
            )
            for standing in found
            if standing.temperature == temperature
        ]
        head = ("", "tok/s", "answers: median (quartiles)", "acceptance", "tokens/pass", "TTFT")
        last = [f"{ours} is"] if ours else []
        shown.append(Table(f"Decoding, {sampling}", (*head, *last), tuple(rows)))
    return shown


def _spread(quartiles: tuple[float, float, float]) -> str:
    low, middle, high = quartiles
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _ratio(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return ""
    spread = f" ({ratio['q1']:.2f} to {ratio['q3']:.2f})" if ratio["q1"] < ratio["q3"] else ""
    return f"{ratio['median']:.2f}×{spread}"


def check_against(
    against: tuple[str, ...], lengths: list[int | None], run: RunFlags, *, has_file: bool
) -> None:
    """Refuses options that a comparison with other engines does not have.

    Raises:
        LocalmtpError: an earlier result, a plot, a time limit, or automatic draft lengths of
            llama-server were requested too.
    """
    if None in lengths:
        raise LocalmtpError(
            "llama-server has no automatic draft length",
            hint="pass fixed lengths: `--against-n-draft 1,3`",
        )
    given = [
        name
        for name, value in (("FILE", has_file), ("--plot", run.plot), ("--budget", run.budget))
        if value
    ]
    if against and given:
        raise LocalmtpError(
            f"--against does not go together with {', '.join(given)}",
            hint="compare with an earlier result in a run of its own",
        )
