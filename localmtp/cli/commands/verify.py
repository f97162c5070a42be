"""`localmtp verify`: a check that drafting leaves the output unchanged."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.loading import load_model
from localmtp.cli.options import (
    DraftLengths,
    GenerationFlags,
    PairFlags,
    collected,
    pair_options,
    sampling_options,
)
from localmtp.errors import LocalmtpError
from localmtp.models.files import NO_DRAFTER

if TYPE_CHECKING:
    from localmtp.engine.pair import Pair
    from localmtp.models import ModelFiles
    from localmtp.verify.greedy import Difference
    from localmtp.verify.verification import Verification, VerifyPlan


@click.command("verify", short_help="Check that drafting leaves the output unchanged.")
@click.argument("model")
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
    type=click.IntRange(min=16),
    default=128,
    show_default=True,
    help="Maximum length of an answer.",
)
@click.option(
    "--prompts",
    type=click.IntRange(min=1),
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@collected(GenerationFlags, "generation")
def command(
    model: str,
    pair: PairFlags,
    lengths: list[int | None],
    generation: GenerationFlags,
    prompts: int,
    source: Path | None,
    as_json: bool,
) -> int:
    """Check that drafting leaves MODEL's output unchanged; exit with 1 if not.

    Greedy answers are compared token by token. Sampled ones are tested against the target's
    distributions. After forced rejections, logits and hidden states must equal those of plain
    decoding.

    \b
    localmtp verify nano
    localmtp verify gemma4-e4b --prompts 1
    localmtp verify my-model-Q4_K_M.gguf --source ./my-model
    """  # noqa: D301 - click reads the character
    from localmtp.verify.verification import verify

    if source is not None:
        return _against_source(model, pair, prompts, source, as_json=as_json)
    files, loaded = load_model(model, pair)
    with loaded:
        if files.why_no_drafter:
            raise LocalmtpError(
                f"nothing to verify: {files.why_no_drafter}",
                hint="choose a drafter: --drafter PATH.gguf",
            )
        plan = _plan(files, loaded, lengths, generation, prompts)
        click.echo("this takes a while: every answer is computed several times", err=True)
        found = verify(loaded, files, plan)
    if as_json:
        output.line(json.dumps(_as_json(files, plan, found), ensure_ascii=False))
    else:
        _say(plan, found)
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
            [vocab.bos, *vocab.tokenize(prompt, special=False)][: pair.target.n_ctx]
            for listed in workloads.values()
            for prompt in listed
        ]
        found = check_source(pair.sequences[0], texts, source)
    if as_json:
        report = {"model": files.name, "source": str(source), "passed": found.passed}
        output.line(json.dumps(report | asdict(found), ensure_ascii=False))
    else:
        _part(
            "source",
            found.passed,
            f"the next token's distribution is {found.divergence:.4f} nats from the checkpoint's "
            f"on average over {found.positions} positions, {found.worst:.3f} at most; less than "
            f"{found.bound} is explained by the file's type",
            f"both prefer the same token at {found.agreement:.1%} of positions",
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
            hint="for example: --n-draft 3 --temp 1",
        )
    workloads = workloads_for(files.name, prompts)
    texts = [prompt for listed in workloads.values() for prompt in listed]
    assert generation.max_tokens is not None
    return VerifyPlan(texts, lengths, sampling, generation.max_tokens)


def _say(plan: VerifyPlan, found: Verification) -> None:
    passes, greedy, sampled = found.passes, found.greedy, found.sampled
    _part(
        "passes",
        passes.passed,
        f"{passes.rejections} planted rejections in {passes.positions} positions: logits within "
        f"{passes.after_rejection:.3f} of plain decoding; rounding alone, measured here, moves "
        f"them by up to {passes.noise:.3f}",
        f"hidden rows within {passes.hidden_error:.1%}"
        + ("" if passes.drafter_listens else "; the drafter does not read them"),
    )
    same = greedy.compared - len(greedy.differences)
    _part(
        "greedy",
        greedy.passed(passes.bound),
        f"{same} of {greedy.compared} answers with drafting are those without, token by token",
        *(_difference(plan, d, passes.bound) for d in greedy.differences),
    )
    _part(
        "sampled",
        None if sampled.undecided else sampled.passed,
        f"p = {sampled.p_value:.3g}; fails below 0.001"
        + ("" if sampled.enough else "; too few tokens to tell"),
        f"towards the drafter: {sampled.leaning:+.2f} standard deviations in {sampled.tokens} "
        f"tokens, worth {sampled.tosses:.0f} fair coin tosses (p = {sampled.leaning_p:.3g})",
        f"shape: chi-squared with 20 degrees of freedom for {sampled.open} open tokens "
        f"(p = {sampled.shape_p:.3g})",
        f"drafts accepted at this sampling: {sampled.acceptance:.1%} expected; "
        f"{sampled.acceptance_if_equal:.1%} if the drafter's favourite is kept only when the "
        "target's sample equals it, as llama.cpp does",
    )
    verdict = "drafting leaves the output unchanged" if found.passed else "the output is CHANGED"
    if found.undecided:
        verdict = "undecided: too few tokens were sampled; more with --prompts, or --n-draft 3"
    output.line(f"\n{verdict}")


def _part(name: str, passed: bool | None, *lines: str) -> None:
    """A check and what it found; one that is neither passed nor failed is None."""
    word = "unsure" if passed is None else "passed" if passed else "FAILED"
    output.line(f"{word}  {name:8} {lines[0]}")
    for line in lines[1:]:
        output.line(f"{'':17}{line}")


def _difference(plan: VerifyPlan, difference: Difference, bound: float) -> str:
    prompt = " ".join(plan.prompts[difference.prompt].split())
    tie = "a near-tie" if difference.margin < bound else "NOT a tie"
    return (
        f"token {difference.at + 1} of “{prompt[:40]}”: {tie}, {difference.margin:.3f} between "
        f"the two logits ({bound:.3f} can be rounding)"
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
            "differences": [
                {
                    "prompt": plan.prompts[d.prompt],
                    "n_draft": "auto" if d.n_draft is None else str(d.n_draft),
                    "at": d.at,
                    "margin": d.margin if d.margin < float("inf") else None,
                }
                for d in greedy.differences
            ],
        },
        "sampled": {
            "passed": found.sampled.passed,
            "p_value": found.sampled.p_value,
            **asdict(found.sampled),
        },
    }
