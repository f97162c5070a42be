"""`localmtp bench --synthetic`: the speed to expect of a model that is not here."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from localmtp.cli.bench.measuring import load
from localmtp.cli.bench.reporting import setting, show
from localmtp.cli.options import load_options
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.bench.synthetic.files import SyntheticFile
    from localmtp.engine.pair import LoadOptions, Pair
    from localmtp.models import ModelFiles

_CONTEXT = 1024
"""Tokens, without `--ctx`: room for what is measured."""

_BUDGET_S = 60.0
"""Without `--budget`: small models are done before, and large ones measured some times by then."""

_VOCABULARY = 1 << 24
"""Bytes that come to the weights of each file, at most."""

MEANINGLESS = (
    *("trace", "plot", "history", "compare", "workloads", "prompts", "prompts_file", "repeats"),
    *("sampled", "temp", "top_k", "top_p", "min_p", "seed", "max_tokens", "system", "think"),
)
"""Flags of `bench` that say nothing where no model answers."""


class Shares(click.ParamType[tuple[float, ...]]):
    """Shares of drafts accepted at each position, with commas between them."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The shares, which cannot rise: a position counts only if all before it were accepted."""
        if isinstance(value, tuple):
            return value
        try:
            shares = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of shares such as 0.8,0.6,0.5", param, ctx)
        if not all(0.0 <= share <= 1.0 for share in shares):
            self.fail("shares are between 0 and 1", param, ctx)
        if any(later > earlier for earlier, later in pairwise(shares)):
            self.fail("shares cannot rise: a draft counts only after all before it", param, ctx)
        return shares


def expect(model: str, flags: dict[str, Any]) -> None:
    """Say what speed to expect of a model.

    Args:
        model: a name of the registry, of which random weights are written; or a pair on disk, whose
            own weights are used.
        flags: of `bench`.

    Raises:
        LocalmtpError: the model is not known, or does not fit the disk or the memory.
    """
    from localmtp.bench.synthetic.forecast import forecast, published
    from localmtp.bench.synthetic.report import Expected, as_json, tables
    from localmtp.bench.synthetic.survey import survey
    from localmtp.limits import MAX_AUTO_DRAFT

    lengths: list[int | None] = list(dict.fromkeys([0, *flags["n_draft"]]))
    longest = max(MAX_AUTO_DRAFT if n is None else n for n in lengths)
    own = flags["acceptance"]
    workloads = {"given": own} if own else published()
    budget_s = 60 * flags["budget"] if flags["budget"] else _BUDGET_S
    with _loaded(model, flags) as (files, pair):
        if files.why_no_drafter:
            raise LocalmtpError(f"there is nothing to expect: {files.why_no_drafter}")
        click.echo("measuring what rounds of drafting cost", err=True)
        costs = survey(pair, range(longest + 1), budget_s)
        where = setting(files, flags["threads"])
    expected = Expected(
        costs,
        lengths,
        {w: {n: forecast(costs, w, shares, n) for n in lengths} for w, shares in workloads.items()},
    )
    show(where, as_json(where, expected), tables(where, expected), flags)


@contextmanager
def _loaded(model: str, flags: dict[str, Any]) -> Iterator[tuple[ModelFiles, Pair]]:
    """A pair, loaded; for a name of the registry one of random weights, removed afterwards."""
    from localmtp.bench.synthetic.files import synthetic_pair
    from localmtp.models.naming.registry import find
    from localmtp.session.loading import load_pair

    name, _, label = model.partition(":")
    entry = find(name)
    if entry is None:
        files, pair = load(model, flags)
        with pair:
            yield files, pair
        return
    if flags["drafter"]:
        raise LocalmtpError(
            f"{model} gets a drafter of random weights too",
            hint="--drafter goes with a target on disk",
        )
    quant = (label or entry.quants[0].label).upper()
    pair_of_files = synthetic_pair(entry.name, quant)
    options = load_options(flags)
    options = replace(options, context=options.context or _CONTEXT)
    # Gigabytes would stay behind: by itself a termination skips what `with` cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with TemporaryDirectory(prefix="localmtp-") as folder:
        files = _write(f"{entry.name}:{quant}", pair_of_files, Path(folder), options)
        pair, _ = load_pair(files, options)
        with pair:
            yield files, pair


def _write(
    name: str,
    files: tuple[SyntheticFile, SyntheticFile],
    folder: Path,
    options: LoadOptions,
) -> ModelFiles:
    """Write random weights, if there is room for them on disk and in memory."""
    from localmtp.models import ModelFiles
    from localmtp.models.memory.available import place_here

    needed = sum(file.nbytes + _VOCABULARY for file in files)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise LocalmtpError(
            f"{name} needs {needed / 1e9:.1f} GB in {folder.parent}, {free / 1e9:.1f} GB are free",
            hint="the environment variable TMPDIR names another folder",
        )
    target, drafter = folder / "target.gguf", folder / "drafter.gguf"
    written = ModelFiles(f"{name}, random weights", target, drafter, drafter.stem)
    for file, path in zip(files, (target, drafter), strict=True):
        file.outline(path)
    place_here(written, options)
    click.echo(f"writing {needed / 1e9:.1f} GB of random weights to {folder}", err=True)
    for file, path in zip(files, (target, drafter), strict=True):
        file.fill(path)
    return written
