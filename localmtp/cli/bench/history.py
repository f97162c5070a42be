"""`localmtp bench history`: earlier results."""

from __future__ import annotations

import click

from localmtp.cli import output
from localmtp.cli.bench.storage import results_of
from localmtp.cli.model_argument import MODEL
from localmtp.cli.table import table


@click.command("history", short_help="Earlier results.")
@click.argument("model", type=MODEL)
def command(model: str) -> None:
    """Show the earlier results for MODEL, latest first; nothing is measured.

    \b
        localmtp bench history nano
    """  # noqa: D301 - click reads the character
    from localmtp.bench.result_store import history

    shown = history(results_of(model))
    output.line(shown.title)
    table(shown.head, shown.rows)
