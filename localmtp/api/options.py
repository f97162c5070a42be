"""Options of a reply, checked before anything is generated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from localmtp.engine.sampling.params import AcceptanceRule, OnRepeat
from localmtp.errors import LocalmtpError
from localmtp.session import Choices
from localmtp.session.ranges import violated_range


class CompletionOptions(TypedDict, total=False):
    """Keyword arguments of `LanguageModel.complete`.

    They are named after the flags of the command line (`temperature` is `--temp`). None, or leaving
    one out, means the model's or the program's default.
    """

    temperature: float | None
    """0: greedy."""
    top_k: int | None
    """0: no limit."""
    top_p: float | None
    min_p: float | None
    seed: int | None
    """Makes sampled replies repeatable, with any drafting."""
    acceptance: Literal["auto", "gumbel", "maximal"] | None
    """Rule for sampled drafts: see `AcceptanceRule`."""
    repeat_penalty: float | None
    """Divides the logits of the last 64 tokens; 1: none."""
    presence_penalty: float | None
    """Subtracted from the logits of tokens in the reply."""
    frequency_penalty: float | None
    """The same, times their count."""
    dry_multiplier: float | None
    """Penalty for continuing a repetition, see `DrySampler`; 0: none, usually 0.8."""
    dry_base: float | None
    dry_allowed_length: int | None
    dry_penalty_last_n: int | None
    on_repeat: Literal["auto", "stop", "dry", "off"] | None
    """When a reply repeats itself: end it, penalize repetitions with DRY, or nothing. The default
    ends it, unless decoding is greedy."""
    n_draft: int | Literal["auto"] | None
    """Tokens to draft per pass, at most 16; "auto" (the default) adapts, 0 turns drafting off."""
    max_tokens: int | None
    """Longest reply; None: until the context is full."""


class ChatOptions(CompletionOptions, total=False):
    """Keyword arguments of `LanguageModel.chat`."""

    system: str
    """System prompt."""
    think: bool
    """Let the model think first; its thoughts come in `Channel.THOUGHT`."""
    think_budget: int | None
    """Maximum tokens of thoughts: at the limit they are closed and the reply begins. None: no
    limit."""


def checked_choices(options: Mapping[str, Any], allowed: type[CompletionOptions]) -> Choices:
    """Returns the options as the settings that a session takes.

    Args:
        options: keyword arguments.
        allowed: names them.

    Raises:
        TypeError: there is no option of a name.
        LocalmtpError: a value is out of range.
    """
    for name in options:
        if name not in allowed.__annotations__:
            names = ", ".join(allowed.__annotations__)
            raise TypeError(f"no option {name!r}; there are: {names}")
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("n_draft") == "auto":
        del given["n_draft"]
    for name, value in given.items():
        check_value(name, value)
    if "acceptance" in given:
        given["acceptance"] = AcceptanceRule(given["acceptance"])
    if "on_repeat" in given:
        given["on_repeat"] = OnRepeat(given["on_repeat"])
    return Choices(**given)


def check_value(name: str, value: object) -> None:
    """Checks the range of an option.

    Raises:
        LocalmtpError: the value is out of range.
    """
    if expected := violated_range(name, value):
        auto = '"auto" or ' if name == "n_draft" else ""
        raise LocalmtpError(f"`{name}` is {value!r}", hint=f"it must be {auto}{expected}")
