"""Options against repetition."""

from __future__ import annotations

import click

from localmtp.cli.flags.ranges import Number, WholeNumber

REPETITION = (
    click.option(
        "--dry",
        "dry_multiplier",
        type=Number(0, 100),
        metavar="MULTIPLIER",
        help="DRY: penalty for tokens that continue a repetition; 0: none, 0.8: usual.",
    ),
    click.option(
        "--dry-base",
        type=Number(1, 100),
        help="Growth of the penalty per repeated token.  [default: 1.75]",
    ),
    click.option(
        "--dry-allowed-length",
        type=WholeNumber(min=1),
        metavar="N",
        help="Repeated tokens without a penalty.  [default: 2]",
    ),
    click.option(
        "--dry-penalty-last-n",
        type=WholeNumber(min=-1),
        metavar="N",
        help="Tokens that are searched; -1: 4096.  [default: 1024]",
    ),
    click.option(
        "--on-repeat",
        type=click.Choice(["stop", "dry", "off"]),
        help="When an answer repeats itself: end it, or penalize with DRY.  [default: stop; off "
        "with --temp 0]",
    ),
)
