"""Options shared by commands, and their values as dataclasses.

A decorator such as `pair_options` adds the options and passes their values to the command as one
argument: `pair: PairFlags`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from localmtp.cli.device_options import device_options
from localmtp.cli.flags.draft_length import DraftLength
from localmtp.cli.flags.projector import note_no_media, without_media
from localmtp.cli.flags.ranges import Number, WholeNumber
from localmtp.cli.flags.repetition import REPETITION
from localmtp.cli.flags.rpc import rpc_option
from localmtp.engine.device_options import DeviceOptions
from localmtp.limits import (
    BATCH_ROWS,
    IMAGE_TOKENS,
    MAX_IMAGE_TOKENS,
    MAX_MULTIAXIAL_IMAGE_TOKENS,
    MAX_THREADS,
    MIN_CONTEXT,
    MIN_IMAGE_TOKENS,
    MULTIAXIAL_IMAGE_TOKENS,
)

if TYPE_CHECKING:
    from localmtp.api import ChatOptions, CompletionOptions
    from localmtp.engine.pair import LoadOptions
    from localmtp.session import Choices

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class PairFlags:
    """Values of `pair_options`; None leaves a choice to the program."""

    drafter: str | None = None
    """A path, or `none`."""
    mmproj: str | None = None
    """Path of the projector, or `none`."""
    ctx: int | None = None
    """Tokens."""
    threads: int | None = None
    gpu_layers: int | None = None
    kv_type: str | None = None
    batch: int | None = None
    """Prompt tokens per pass."""
    devices: DeviceOptions = field(default_factory=DeviceOptions)
    image_tokens: int | None = None
    chat_template: Path | None = None
    cache: Path | None = None
    cache_size: float = 8.0
    """GB."""
    offline: bool = False

    def load_options(self, *, parallel: int = 1) -> LoadOptions:
        """Return the engine's options.

        Args:
            parallel: number of sequences that share the context.
        """
        from localmtp.engine.kv_type import KVType
        from localmtp.engine.pair import LoadOptions
        from localmtp.engine.text.template_file import read_template

        return LoadOptions(
            context=self.ctx,
            threads=self.threads,
            gpu_layers=self.gpu_layers,
            kv_type=KVType(self.kv_type) if self.kv_type else None,
            batch=self.batch,
            prompt_cache=self.cache,
            prompt_cache_bytes=int(self.cache_size * 1e9),
            chat_template=read_template(self.chat_template) if self.chat_template else None,
            parallel=parallel,
            devices=self.devices,
            image_tokens=self.image_tokens,
        )


@dataclass(frozen=True, slots=True)
class GenerationFlags:
    """Values of `generation_options`; None leaves a choice to the model or the program."""

    n_draft: int | None = None
    max_tokens: int | None = None
    temp: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    acceptance: Literal["auto", "gumbel", "maximal"] | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    on_repeat: Literal["auto", "stop", "dry", "off"] | None = None
    system: str = ""
    think: bool = False
    think_budget: int | None = None
    on_full: str = "stop"

    @property
    def thinks(self) -> bool:
        """Whether to think; a budget implies it."""
        return self.think or bool(self.think_budget)

    def completion_options(self) -> CompletionOptions:
        """Return the keyword arguments of `LanguageModel.complete`."""
        return {
            "temperature": self.temp,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "seed": self.seed,
            "acceptance": self.acceptance,
            "repeat_penalty": self.repeat_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "dry_multiplier": self.dry_multiplier,
            "dry_base": self.dry_base,
            "dry_allowed_length": self.dry_allowed_length,
            "dry_penalty_last_n": self.dry_penalty_last_n,
            "on_repeat": self.on_repeat,
            "n_draft": self.n_draft,
            "max_tokens": self.max_tokens,
        }

    def chat_options(self) -> ChatOptions:
        """Return the keyword arguments of `LanguageModel.chat`."""
        return {
            **self.completion_options(),
            "system": self.system,
            "think": self.thinks,
            "think_budget": self.think_budget,
        }

    def choices(self) -> Choices:
        """Return the session's choices."""
        from localmtp.engine.sampling.params import AcceptanceRule, OnRepeat
        from localmtp.session import Choices, OnFull

        return Choices(
            temperature=self.temp,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
            acceptance=AcceptanceRule(self.acceptance) if self.acceptance else None,
            repeat_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            dry_multiplier=self.dry_multiplier,
            dry_base=self.dry_base,
            dry_allowed_length=self.dry_allowed_length,
            dry_penalty_last_n=self.dry_penalty_last_n,
            on_repeat=OnRepeat(self.on_repeat) if self.on_repeat else None,
            n_draft=self.n_draft,
            max_tokens=self.max_tokens,
            system=self.system,
            think=self.thinks,
            think_budget=self.think_budget,
            on_full=OnFull(self.on_full),
        )


def prepared(pair: PairFlags, generation: GenerationFlags) -> tuple[Choices, LoadOptions]:
    """Return choices and load options; can be pickled and called in another process.

    Another chat template is one of the choices, because the chat can change it.
    """
    choices, options = generation.choices(), pair.load_options()
    if pair.chat_template:
        choices = replace(choices, template=str(pair.chat_template.absolute()))
    return choices, replace(options, chat_template=None)


def collected(kind: type[Any], name: str) -> Callable[[Command], Command]:
    """Pass the options that are fields of a dataclass to the command as one argument.

    The decorator goes below those that add the options.

    Args:
        kind: a dataclass; fields without an option keep their defaults.
        name: of the command's argument.
    """
    names = [field.name for field in fields(kind)]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def call(**given: Any) -> Any:
            values = {each: given.pop(each) for each in names if each in given}
            return command(**given, **{name: kind(**values)})

        return cast("Command", call)

    return decorate


_PAIR = (
    click.option(
        "--drafter",
        metavar="PATH|none|lookup",
        help="MTP drafter, or smaller model with the same vocabulary, as GGUF; `lookup`: copy "
        "drafts from the context; `none`: no drafting.",
    ),
    click.option("--ctx", type=WholeNumber(min=MIN_CONTEXT), help="Context size in tokens."),
    click.option(
        "--threads",
        type=WholeNumber(1, MAX_THREADS),
        help="CPU threads.  [default: cores that other programs leave free]",
    ),
    click.option(
        "--gpu-layers", type=WholeNumber(min=0), help="Layers on GPUs.  [default: all that fit]"
    ),
    click.option(
        "--kv-type",
        type=click.Choice(("f16", "q8_0")),
        help="Type of the KV cache.  [default: f16, if it fits]",
    ),
    click.option(
        "--batch",
        type=WholeNumber(min=1),
        help=f"Prompt tokens per pass.  [default: {BATCH_ROWS}]",
    ),
    click.option(
        "--image-tokens",
        type=WholeNumber(MIN_IMAGE_TOKENS, MAX_MULTIAXIAL_IMAGE_TOKENS),
        help=f"Most tokens of an image; more than {MAX_IMAGE_TOKENS} for Qwen only.  "
        f"[default: {IMAGE_TOKENS}, Qwen {MULTIAXIAL_IMAGE_TOKENS}]",
    ),
    rpc_option,
    click.option("--offline", is_flag=True, help="Do not use the network."),
)

_PROJECTOR = (
    click.option(
        "--mmproj",
        metavar="PATH|none",
        callback=without_media,
        help="Projector GGUF; `none`: no images and sound.",
    ),
    click.option(
        "--no-media",
        is_flag=True,
        is_eager=True,  # `--mmproj` reads it
        expose_value=False,
        callback=note_no_media,
        help="The same as `--mmproj none`.",
    ),
)

_LENGTHS = (
    click.option(
        "--n-draft",
        type=DraftLength(),
        default="auto",
        show_default=True,
        help="Draft tokens per pass; 0: no drafting.",
    ),
    click.option("--max-tokens", type=WholeNumber(min=1), help="Maximum length of an answer."),
)

_TRUNCATION = (
    click.option(
        "--top-k", type=WholeNumber(min=0), help="Sample from the N most probable tokens; 0: all."
    ),
    click.option(
        "--top-p",
        type=Number(0, 1, min_open=True),
        help="Sample from the most probable tokens that have this share together.",
    ),
    click.option(
        "--min-p",
        type=Number(0, 1, max_open=True),
        help="Exclude tokens below this share of the most probable one.",
    ),
)

_THINK_BUDGET = click.option(
    "--think-budget",
    type=WholeNumber(min=0),
    metavar="N",
    help="Think, and close thoughts after N tokens; 0: do not think.",
)

_SYSTEM = click.option("--system", metavar="TEXT", default="", help="System prompt.")


def pair_options(command: Command) -> Command:
    """Add the options for drafter and placement, passed as `pair: PairFlags`."""
    return _apply(_PAIR, device_options(collected(PairFlags, "pair")(command)))


def projector_options(command: Command) -> Command:
    """Add the options for the projector, passed with those of `pair_options`, which go below."""
    return _apply(_PROJECTOR, command)


def generation_options(command: Command) -> Command:
    """Add the options for generation, passed as `generation: GenerationFlags`."""
    command = collected(GenerationFlags, "generation")(command)
    command = _apply(REPETITION, prompt_options(command))
    return _apply(_LENGTHS, sampling_options()(command))


def sampling_options(
    *, temp: float | None = None, seed: int | None = None
) -> Callable[[Command], Command]:
    """Add the options for sampling.

    Args:
        temp: default temperature; None leaves it to the model.
        seed: default seed; None draws one.
    """
    options = (
        click.option(
            "--temp",
            type=Number(min=0),
            default=temp,
            show_default=temp is not None,
            help="Temperature; 0: greedy.",
        ),
        *_TRUNCATION,
        click.option(
            "--seed",
            type=WholeNumber(min=0),
            default=seed,
            show_default=seed is not None,
            help="Seed; repeats an answer, with any draft length.",
        ),
        click.option(
            "--repeat-penalty",
            type=Number(0, 10, min_open=True),
            help="Divides the logits of the last 64 tokens; 1: none.",
        ),
        click.option(
            "--presence-penalty",
            type=Number(-2, 2),
            help="Subtracted from the logits of tokens in the answer.",
        ),
        click.option(
            "--frequency-penalty",
            type=Number(-2, 2),
            help="The same, times their count.",
        ),
        click.option(
            "--acceptance",
            type=click.Choice(["auto", "gumbel", "maximal"]),
            help="Rule for sampled drafts. gumbel: the seed alone decides the answer; maximal: "
            "most are accepted; auto: gumbel with --seed.  [default: auto]",
        ),
    )
    return lambda command: _apply(options, command)


def prompt_options(command: Command) -> Command:
    """Add the options for what surrounds the user's text in the prompt."""
    return _SYSTEM(think_option(_THINK_BUDGET(command)))


def think_option(command: Command) -> Command:
    """Add `--think/--no-think`."""
    return click.option(
        "--think/--no-think", default=False, help="Let the model think before it answers."
    )(command)


def _apply(options: tuple[Callable[[Any], Any], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
