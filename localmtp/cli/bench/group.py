"""The group `localmtp bench`: `bench MODEL` is `bench run MODEL`, and earlier flags still work."""

from __future__ import annotations

from difflib import get_close_matches

import click

from localmtp.cli.bench.earlier_flags import translated
from localmtp.cli.lazy import LazyGroup

_PACKAGE = "localmtp.cli.bench"

_COMMANDS = {
    name: f"{_PACKAGE}.{name}:command"
    for name in ("run", "compare", "history", "synthetic", "concurrency", "trace", "replay")
}


class _BenchGroup(LazyGroup):
    """Runs `bench run` if the first argument is not a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.list_commands(ctx), *ctx.help_option_names):
            self._refuse_misspelled(ctx, args[0])
            args = translated(args, lambda name: self.get_command(ctx, name))
        return super().parse_args(ctx, args)

    def _refuse_misspelled(self, ctx: click.Context, word: str) -> None:
        similar = get_close_matches(word, self.list_commands(ctx), n=1, cutoff=0.8)
        if similar and not word.startswith("-"):
            raise click.UsageError(f"No such command {word!r}. Did you mean {similar[0]!r}?", ctx)


@click.group(
    "bench",
    cls=_BenchGroup,
    lazy_commands=_COMMANDS,
    short_help="Measure decoding speed, with and without drafting.",
    subcommand_metavar="COMMAND | MODEL [ARGS]...",
)
def group() -> None:
    """Measure decoding speed on this machine, with and without drafting.

    `localmtp bench MODEL` is short for `localmtp bench run MODEL`.

    \b
        localmtp bench nano
        localmtp bench gemma4-e4b --budget 20
        localmtp bench synthetic gemma4-12b
    """  # noqa: D301 - click reads the character
