"""`localmtp verify`: a check that drafting leaves the output unchanged."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.bench.progress import show_progress
from localmtp.cli.diagnostics import INTERRUPTED
from localmtp.cli.flags.draft_length import DraftLengths
from localmtp.cli.flags.ranges import Number, WholeNumber
from localmtp.cli.loading import load_model
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import (
    GenerationFlags,
    PairFlags,
    collected,
    pair_options,
    projector_options,
    sampling_options,
)
from localmtp.cli.prompt import MediaFlags, media_options
from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_DRAFTER

if TYPE_CHECKING:
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles
    from localmtp.verify.greedy import Difference, GreedyCheck
    from localmtp.verify.passes import PassCheck
    from localmtp.verify.seeded import SeededCheck
    from localmtp.verify.time_limit import Progress
    from localmtp.verify.verification import Verification, VerifyPlan


@click.command("verify", short_help="Check that drafting leaves the output unchanged.")
@click.argument("model", type=MODEL)
@projector_options
@pair_options
@click.option(
    "--n-draft",
    "lengths",
    type=DraftLengths(),
    default="auto,3",
    show_default=True,
    help="Draft lengths to compare with no drafting.",
)
@sampling_options(seed=0)
@click.option(
    "--max-tokens",
    type=WholeNumber(min=16),
    default=128,
    show_default=True,
    help="Maximum length of an answer.",
)
@click.option(
    "--prompts",
    type=WholeNumber(min=1),
    default=2,
    show_default=True,
    help="Prompts per workload.",
)
@click.option(
    "--source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Instead, compare the target with the checkpoint it was converted from.",
)
@click.option(
    "--budget",
    type=Number(min=0, min_open=True),
    default=10,
    show_default=True,
    metavar="MINUTES",
    help="Time limit. Every check completes at least one prompt.",
)
@media_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@collected(GenerationFlags, "generation")
def command(
    model: str,
    pair: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    prompts: int,
    source: Path | None,
    budget: float,
    media: MediaFlags,
    as_json: bool,
) -> int:
    """Check that drafting leaves MODEL's output unchanged; exit with 1 if not, or if undecided.

    Greedy answers are compared token by token. Sampled ones are tested against the target's
    distributions. After forced rejections, logits and hidden states must equal those of plain
    decoding.

    \b
        localmtp verify nano
        localmtp verify gemma4-e4b --prompts 1
        localmtp verify gemma4-e4b --prompts 1 --image photo.jpg
        localmtp verify my-model-Q4_K_M.gguf --source ./my-model
    """  # noqa: D301 - click reads the character
    from localmtp.verify.verification import verify

    if source is not None:
        return _against_source(model, pair, prompts, source, as_json=as_json)
    given = media.load()
    files, loaded = load_model(model, pair)
    with loaded:
        if not files.drafts:
            raise LocalmtpError(
                f"nothing to verify: {files.why_no_drafter}",
                hint="pass a drafter with `--drafter PATH.gguf`",
            )
        plan = _plan(files, loaded, lengths, generation, prompts)
        plan = replace(plan, media=given, limit_s=60 * budget)
        output.note(f"this takes up to {budget:g} min: every answer is computed several times")
        try:
            found = verify(loaded, files, plan, report=_show_progress)
        finally:
            if output.shows_progress():
                click.echo(err=True)
    if as_json:
        output.line(json.dumps(_as_json(files, plan, found), ensure_ascii=False))
    else:
        _print_report(plan, found)
    if found.interrupted:
        done = ", ".join(f"{stage.check} {stage.done} of {stage.total}" for stage in found.stages)
        output.note(f"interrupted: {done} answers")
        return INTERRUPTED
    return 0 if found.passed else 1


def _against_source(
    model: str, flags: PairFlags, prompts: int, source: Path, *, as_json: bool
) -> int:
    """Compare next-token distributions on the workloads' prompts as plain text."""
    from localmtp.bench.workloads import workloads_for
    from localmtp.verify.source import check_source, require_transformers

    require_transformers()
    files, pair = load_model(model, replace(flags, drafter=NO_DRAFTER))
    with pair:
        vocab = pair.target.vocab
        workloads = workloads_for(files.name, prompts)
        texts = [
            [*vocab.opening, *vocab.tokenize(prompt, special=False)][: pair.target.n_ctx]
            for listed in workloads.values()
            for prompt in listed
        ]
        found = check_source(pair.sequences[0], texts, source)
    if as_json:
        report = {"model": files.name, "source": str(source), "passed": found.passed}
        output.line(json.dumps(report | asdict(found), ensure_ascii=False))
    else:
        _print_check(
            "source",
            found.passed,
            f"mean divergence from the checkpoint {found.divergence:.4f} nats over "
            f"{found.positions} positions, maximum {found.worst:.3f}; the bound for the file's "
            f"type is {found.bound}",
            f"same most probable token at {100 * found.agreement:.1f} % of positions",
        )
    return 0 if found.passed else 1


def _plan(
    files: ModelFiles,
    pair: Pair,
    lengths: list[int | None],
    generation: GenerationFlags,
    prompts: int,
) -> VerifyPlan:
    from localmtp.bench.workloads import workloads_for
    from localmtp.session.local import default_sampling
    from localmtp.verify.verification import VerifyPlan

    sampling = generation.choices().settings(default_sampling(pair)).sampling
    lengths = [n for n in lengths if n != 0]
    if not lengths or sampling.temperature == 0:
        raise LocalmtpError(
            "nothing to verify without drafting, or without sampling",
            hint="for example: `--n-draft 3 --temp 1`",
        )
    workloads = workloads_for(files.name, prompts)
    # Workloads in turn, so that a time limit leaves none out.
    rounds = zip_longest(*workloads.values())
    texts = [prompt for each in rounds for prompt in each if prompt is not None]
    assert generation.max_tokens is not None
    return VerifyPlan(texts, lengths, sampling, generation.max_tokens)


def _show_progress(progress: Progress) -> None:
    show_progress(
        progress.done,
        progress.total,
        f"prompts ({progress.check})",
        progress.elapsed_s,
        progress.limit_s,
    )


def _hidden_states(passes: PassCheck) -> str:
    unread = "; the drafter does not read them" if passes.drafter_listens is False else ""
    return f"hidden states within {100 * passes.hidden_error:.1f} %{unread}"


def _print_report(plan: VerifyPlan, found: Verification) -> None:
    stages = {stage.check: stage for stage in found.stages}
    for check, show in _PRINTED.items():
        if stages[check].done or not found.interrupted:
            show(plan, found, interrupted=stages[check].interrupted)
    verdict = "drafting leaves the output unchanged" if found.passed else "the output is CHANGED"
    if found.interrupted and found.undecided:
        verdict = "undecided: interrupted before all answers were compared"
    elif found.undecided:
        short = any(stage.cut for stage in found.stages if stage.check == "sampled")
        more = "--budget" if short else "--prompts, or use --n-draft 3"
        verdict = (
            "undecided: the sampled answers are too certain or too few for a verdict; increase "
            f"--temp, {more}"
        )
    output.line(f"\n{verdict}")
    cut = [f"{s.check} {s.done} of {s.total}" for s in found.stages if s.cut]
    if cut:
        output.note(f"limited by --budget {plan.limit_s / 60:g}: {', '.join(cut)} answers")


def _print_passes(_: VerifyPlan, found: Verification, *, interrupted: bool) -> None:
    passes = found.passes
    _print_check(
        "passes",
        None if passes.passed and interrupted else passes.passed,
        f"{passes.rejections} forced rejections in {passes.positions} positions: logits within "
        f"{passes.after_rejection:.3f} of plain decoding; rounding alone moves them by up to "
        f"{passes.noise:.3f}",
        *([_hidden_states(passes)] if passes.has_hidden else []),
    )


def _print_greedy(plan: VerifyPlan, found: Verification, *, interrupted: bool) -> None:
    greedy, bound = found.greedy, found.passes.bound
    same = greedy.compared - len(greedy.differences)
    _print_check(
        "greedy",
        _verdict(found, greedy, interrupted=interrupted),
        f"{same} of {greedy.compared} answers with drafting equal those without, token by token",
        *(_difference(plan, d, bound) for d in greedy.differences),
    )


def _verdict(
    found: Verification, check: GreedyCheck | SeededCheck, *, interrupted: bool
) -> bool | None:
    """Return whether a comparison passed; None if it, or the bound of rounding, is incomplete."""
    incomplete = interrupted or (check.differences and found.passes.drafter_listens is None)
    passed = check.passed(found.passes.bound)
    return None if passed and incomplete else passed


def _print_sampled(_: VerifyPlan, found: Verification, *, interrupted: bool) -> None:
    sampled = found.sampled
    _print_check(
        "sampled",
        None if sampled.undecided or (interrupted and sampled.passed) else sampled.passed,
        f"p = {sampled.p_value:.3g}; fails below 0.001"
        + ("" if sampled.enough else "; too few tokens for a verdict"),
        f"leaning towards the drafter: {sampled.leaning:+.2f} standard deviations in "
        f"{sampled.tokens} tokens, weight {sampled.tosses:.0f} fair coin tosses "
        f"(p = {sampled.leaning_p:.3g})",
        f"shape: chi-squared, 20 degrees of freedom, {sampled.open} open positions "
        f"(p = {sampled.shape_p:.3g})",
        f"expected acceptance {100 * sampled.acceptance:.1f} %; "
        f"{100 * sampled.acceptance_if_equal:.1f} % if the drafter's most probable token is "
        "accepted only when the target's sample equals it, as in llama.cpp",
    )


def _print_seeded(plan: VerifyPlan, found: Verification, *, interrupted: bool) -> None:
    seeded, bound = found.seeded, found.passes.bound
    same = seeded.compared - len(seeded.differences)
    _print_check(
        "seeded",
        _verdict(found, seeded, interrupted=interrupted),
        f"{same} of {seeded.compared} sampled answers with drafting equal those without, at the "
        "same seed, token by token",
        *(_difference(plan, d, bound) for d in seeded.differences),
    )


_PRINTED = {
    "passes": _print_passes,
    "greedy": _print_greedy,
    "seeded": _print_seeded,
    "sampled": _print_sampled,
}


def _print_check(name: str, passed: bool | None, *lines: str) -> None:
    """Print a check's verdict and details; `passed` is None if undecided."""
    word = "undecided" if passed is None else "passed" if passed else "FAILED"
    output.line(f"{word:9}  {name:8} {lines[0]}")
    for line in lines[1:]:
        output.line(f"{'':20}{line}")


def _difference(plan: VerifyPlan, difference: Difference, bound: float) -> str:
    prompt = " ".join(plan.prompts[difference.prompt].split())
    tie = "a near-tie" if difference.margin < bound else "NOT a tie"
    return (
        f"token {difference.at + 1} of “{prompt[:40]}”: {tie}, the logits differ by "
        f"{difference.margin:.3f} (bound {bound:.3f})"
    )


def _as_json(files: ModelFiles, plan: VerifyPlan, found: Verification) -> dict[str, object]:
    greedy = found.greedy
    return {
        "model": files.name,
        "drafter": files.drafter_name,
        "passed": found.passed,
        "undecided": found.undecided,
        "passes": {
            "passed": found.passes.passed,
            "margin_bound": found.passes.bound,
            **asdict(found.passes),
        },
        "greedy": {
            "passed": greedy.passed(found.passes.bound),
            "compared": greedy.compared,
            "tokens": sum(map(len, greedy.plain)),
            "differences": [_difference_as_json(plan, d) for d in greedy.differences],
        },
        "sampled": {
            "passed": found.sampled.passed,
            "p_value": found.sampled.p_value,
            **asdict(found.sampled),
        },
        "seeded": {
            "passed": found.seeded.passed(found.passes.bound),
            "compared": found.seeded.compared,
            "tokens": found.seeded.tokens,
            "differences": [_difference_as_json(plan, d) for d in found.seeded.differences],
        },
        "budget": plan.limit_s / 60,
        "cut_by_budget": [stage.check for stage in found.stages if stage.cut],
        "interrupted": found.interrupted,
        "answers": {
            stage.check: {"done": stage.done, "total": stage.total} for stage in found.stages
        },
    }


def _difference_as_json(plan: VerifyPlan, difference: Difference) -> dict[str, object]:
    n_draft, margin = difference.n_draft, difference.margin
    return {
        "prompt": plan.prompts[difference.prompt],
        "n_draft": "auto" if n_draft is None else str(n_draft),
        "at": difference.at,
        "margin": margin if margin < float("inf") else None,
    }
