"""`localmtp bench synthetic`: the expected speed of a model that is not downloaded."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from localmtp.cli import output
from localmtp.cli.bench.options import (
    ReportFlags,
    budget_option,
    draft_lengths_option,
    report_options,
    with_no_drafting,
)
from localmtp.cli.bench.report import setup_of, show
from localmtp.cli.loading import load_model
from localmtp.cli.model_argument import MODEL
from localmtp.cli.options import PairFlags, pair_options
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.synthetic.files import SyntheticFile
    from localmtp.engine.pair import LoadOptions, Pair
    from localmtp.models import ModelFiles

_CONTEXT = 1024
"""Default context in tokens: enough for what is measured."""

_BUDGET_S = 60.0
"""Default time limit in seconds: small models finish earlier, large ones repeat a little."""

_VOCABULARY = 1 << 24
"""Upper bound of a file's bytes in addition to its weights."""


class _AcceptanceRates(click.ParamType[tuple[float, ...]]):
    """Comma-separated acceptance rates by position."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the rates; they cannot rise: a draft token counts only after all before it."""
        if isinstance(value, tuple):
            return value
        try:
            rates = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of rates such as 0.8,0.6,0.5", param, ctx)
        if not all(0.0 <= rate <= 1.0 for rate in rates):
            self.fail("acceptance rates are between 0 and 1", param, ctx)
        if any(later > earlier for earlier, later in pairwise(rates)):
            self.fail("acceptance rates cannot rise from one position to the next", param, ctx)
        return rates


@click.command("synthetic", short_help="Expected speed of a model that is not downloaded.")
@click.argument("model", type=MODEL)
@click.option(
    "--acceptance",
    type=_AcceptanceRates(),
    metavar="LIST",
    help="Acceptance rate at each draft position.  [default: published ones]",
)
@pair_options
@draft_lengths_option
@budget_option
@report_options
def command(
    model: str,
    acceptance: tuple[float, ...] | None,
    pair: PairFlags,
    lengths: list[int | None],
    budget: float | None,
    report: ReportFlags,
) -> None:
    """Estimate MODEL's speed from files with random weights of its shape; downloads nothing.

    MODEL is a name that `localmtp list --all` shows, or a pair on disk, which is measured with its
    own weights.

    \b
        localmtp bench synthetic gemma4-12b
        localmtp bench synthetic gemma4-e4b:Q4_K_M --acceptance 0.67,0.47,0.35
    """  # noqa: D301 - click reads the character
    from localmtp.bench.synthetic.forecast import forecast, published
    from localmtp.bench.synthetic.report import ForecastReport
    from localmtp.bench.synthetic.survey import survey
    from localmtp.limits import MAX_AUTO_DRAFT

    lengths = with_no_drafting(lengths)
    workloads = {"given": acceptance} if acceptance else published()
    budget_s = 60 * budget if budget else _BUDGET_S
    with _loaded(model, pair) as (files, loaded):
        if files.why_no_drafter:
            raise LocalmtpError(f"nothing to estimate: {files.why_no_drafter}")
        limit = loaded.target.max_draft
        if any(n is not None and n > limit for n in lengths):
            output.note(f"drafts of this model have at most {limit} tokens: its recurrent states")
        lengths = [n for n in lengths if n is None or n <= limit]
        longest = min(limit, max(MAX_AUTO_DRAFT if n is None else n for n in lengths))
        output.note("measuring the cost of rounds by draft length")
        costs = survey(loaded, range(longest + 1), budget_s)
        setup = setup_of(files, pair.threads, loaded)
    estimate = ForecastReport(
        costs,
        lengths,
        {w: {n: forecast(costs, w, rates, n) for n in lengths} for w, rates in workloads.items()},
    )
    show(setup, estimate.as_json(setup), estimate.tables(setup), report)


@contextmanager
def _loaded(model: str, flags: PairFlags) -> Iterator[tuple[ModelFiles, Pair]]:
    """Load a pair; for a registry name, one of random weights that is removed afterwards."""
    from localmtp.bench.synthetic.files import synthetic_files
    from localmtp.models.naming.registry import find
    from localmtp.session.loading import load_pair

    name, _, label = model.partition(":")
    entry = find(name)
    if entry is None:
        files, pair = load_model(model, flags)
        with pair:
            yield files, pair
        return
    if flags.drafter:
        raise LocalmtpError(
            f"{model} is measured with a drafter of random weights",
            hint="`--drafter` needs a target on disk (PATH.gguf)",
        )
    quant = (label or entry.quants[0].label).upper()
    described = synthetic_files(entry.name, quant)
    options = flags.load_options()
    options = replace(options, context=options.context or _CONTEXT)
    # Without a handler, SIGTERM would skip the clean-up and leave gigabytes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with TemporaryDirectory(prefix="localmtp-") as folder:
        files = _write(f"{entry.name}:{quant}", described, Path(folder), options)
        pair, _ = load_pair(files, options, trusted=True)
        with pair:
            yield files, pair


def _write(
    name: str,
    files: Sequence[SyntheticFile],
    folder: Path,
    options: LoadOptions,
) -> ModelFiles:
    """Write files of random weights.

    Raises:
        LocalmtpError: they do not fit the disk or the memory.
    """
    from localmtp.engine.compatibility import HEAD_IN_FILE
    from localmtp.models import ModelFiles
    from localmtp.models.memory.available import choose_placement

    needed = sum(file.nbytes + _VOCABULARY for file in files)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise LocalmtpError(
            f"{name} needs {needed / 1e9:.1f} GB in {folder.parent}, {free / 1e9:.1f} GB are free",
            hint="set TMPDIR to a directory on another disk",
        )
    paths = [folder / "target.gguf", folder / "drafter.gguf"][: len(files)]
    drafter_name = paths[1].stem if len(paths) > 1 else HEAD_IN_FILE
    written = ModelFiles(f"{name}, random weights", paths[0], paths[-1], drafter_name)
    for file, path in zip(files, paths, strict=True):
        file.outline(path)
    choose_placement(written, options)
    output.note(f"writing {needed / 1e9:.1f} GB of random weights to {folder}")
    for file, path in zip(files, paths, strict=True):
        file.fill(path)
    return written
