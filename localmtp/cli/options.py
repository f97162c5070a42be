"""The flags that commands share, and what they mean to the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from localmtp.cli.rpc_options import rpc_option
from localmtp.limits import BATCH_ROWS, MAX_DRAFT, MIN_CONTEXT

if TYPE_CHECKING:
    from localmtp.engine.pair import LoadOptions
    from localmtp.session import Choices

Command = TypeVar("Command", bound=Callable[..., Any])


class DraftLength(click.ParamType[int | None]):
    """`auto` (None), or a number of tokens."""

    name = f"auto|0..{MAX_DRAFT}"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """The length, or None for `auto`."""
        if value is None or value == "auto":
            return None
        if not (isinstance(value, str) and value.isdecimal() and int(value) <= MAX_DRAFT):
            self.fail(f"{value!r} is neither `auto` nor a number from 0 to {MAX_DRAFT}", param, ctx)
        return int(value)


_PAIR = (
    click.option("--drafter", metavar="PATH|none", help="Drafter GGUF; `none`: no drafting."),
    click.option("--ctx", type=click.IntRange(min=MIN_CONTEXT), help="Context, in tokens."),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="CPU threads.  [default: as many as cores that others leave free]",
    ),
    click.option(
        "--gpu-layers", type=click.IntRange(min=0), help="Layers on GPUs.  [default: all that fit]"
    ),
    click.option(
        "--kv-type",
        type=click.Choice(("f16", "q8_0")),
        help="Format of the KV cache.  [default: f16, if it fits]",
    ),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        help=f"Prompt tokens per pass.  [default: {BATCH_ROWS}]",
    ),
    rpc_option,
    click.option("--offline", is_flag=True, help="Never ask the network."),
)

_LENGTHS = (
    click.option(
        "--n-draft",
        type=DraftLength(),
        default="auto",
        show_default=True,
        help="Tokens to draft per pass; 0: no drafting.",
    ),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer."),
)

_TRUNCATION = (
    click.option("--top-k", type=click.IntRange(min=0), help="0: no limit."),
    click.option("--top-p", type=click.FloatRange(0, 1, min_open=True)),
    click.option("--min-p", type=click.FloatRange(0, 1, max_open=True)),
)

_PROMPT = (
    click.option("--system", metavar="TEXT", default="", help="System prompt."),
    click.option("--think/--no-think", default=False, help="Let the model think first."),
)


def pair_options(command: Command) -> Command:
    """Which drafter, and how the pair is put on the machine."""
    return _apply(_PAIR, command)


def generation_options(command: Command) -> Command:
    """How answers are generated."""
    return _apply(_LENGTHS, sampling_options()(prompt_options(command)))


def sampling_options(
    *, temp: float | None = None, seed: int | None = None
) -> Callable[[Command], Command]:
    """How tokens are chosen.

    Args:
        temp: the temperature without the flag; None leaves it to the model.
        seed: without the flag; None draws one.
    """
    drawn = (
        click.option(
            "--temp",
            type=click.FloatRange(min=0),
            default=temp,
            show_default=temp is not None,
            help="Temperature; 0: greedy.",
        ),
        *_TRUNCATION,
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=seed,
            show_default=seed is not None,
            help="For answers that can be repeated.",
        ),
    )
    return lambda command: _apply(drawn, command)


def exact_option(command: Command) -> Command:
    """Whether near-ties are settled."""
    return click.option(
        "--exact", is_flag=True, help="With --temp 0: settle near-ties with a pass of one token."
    )(command)


def check_exact(flags: dict[str, Any]) -> None:
    """Refuse `--exact` where it would do nothing.

    Raises:
        click.UsageError: the answers are not greedy.
    """
    if flags["exact"] and flags["temp"] != 0:
        raise click.UsageError("--exact settles greedy choices: add --temp 0")


def prompt_options(command: Command) -> Command:
    """What the model is told besides the question."""
    return _apply(_PROMPT, command)


def _apply(options: tuple[Callable[[Any], Any], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def choices(flags: dict[str, Any], **instead: Any) -> Choices:
    """The generation flags for a session.

    Args:
        flags: those that a command has; what it lacks is left to the model or the program.
        instead: fields of `Choices` that take the place of flags.
    """
    from localmtp.session import Choices, OnFull

    given = {**flags, "temperature": flags["temp"], **instead}
    if "on_full" in given:
        given["on_full"] = OnFull(given["on_full"])
    return Choices(**{name: given[name] for name in Choices.__slots__ if name in given})


def load_options(flags: dict[str, Any]) -> LoadOptions:
    """The pair flags for the engine."""
    from localmtp.engine.kv_type import KVType
    from localmtp.engine.pair import LoadOptions

    return LoadOptions(
        context=flags["ctx"],
        threads=flags["threads"],
        gpu_layers=flags["gpu_layers"],
        kv_type=flags["kv_type"] and KVType(flags["kv_type"]),
        batch=flags["batch"],
    )


def prepared(flags: dict[str, Any]) -> tuple[Choices, LoadOptions]:
    """Both; a function of a module, so that another process can be told to call it."""
    return choices(flags), load_options(flags)
