"""Settings as text: parsing, formatting and validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localmtp.errors import LocalmtpError
from localmtp.limits import MAX_DRAFT
from localmtp.session.ranges import violated_range

if TYPE_CHECKING:
    from localmtp.session import Session, Settings

KEYS = {
    "temp": "0 or more; 0: greedy",
    "top-k": "0 or more; 0: no limit",
    "top-p": "0..1",
    "min-p": "0..1",
    "seed": "random, or a number",
    "max-tokens": "none, or a number",
    "draft": f"auto, or 0..{MAX_DRAFT}; 0: off",
    "on-full": "stop, or drop (oldest)",
    "repeat-penalty": "1: none; up to 10",
    "presence-penalty": "-2..2; 0: none",
    "frequency-penalty": "-2..2; 0: none",
    "dry": "0: none; usually 0.8",
    "on-repeat": "auto, stop, dry, or off",
    "think": "on, or off",
    "think-budget": "none, or tokens; 0: off",
    "template": "own, or a Jinja file",
}
"""Keys with a description of their values."""

OWN_TEMPLATE = "own"

_SWITCH = {"on": True, "off": False}

_SAMPLING: dict[str, tuple[str, Callable[[str], float | None]]] = {
    "temp": ("temperature", float),
    "top-k": ("top_k", int),
    "top-p": ("top_p", float),
    "min-p": ("min_p", float),
    "seed": ("seed", lambda text: None if text == "random" else int(text)),
    "repeat-penalty": ("repeat_penalty", float),
    "presence-penalty": ("presence_penalty", float),
    "frequency-penalty": ("frequency_penalty", float),
    "dry": ("dry_multiplier", float),
}


def changed(settings: Settings, key: str, value: str) -> Settings:
    """Returns a copy of the settings with one changed.

    Args:
        settings: to copy.
        key: one of `KEYS`.
        value: as text.

    Raises:
        LocalmtpError: the key is unknown or the value is invalid.
    """
    try:
        if key == "draft":
            length = None if value == "auto" else int(value)
            _check(length, MAX_DRAFT)
            return replace(settings, n_draft=length)
        if key == "on-full":
            return replace(settings, on_full=type(settings.on_full)(value))
        if key == "on-repeat":
            sampling = settings.sampling
            mode = type(sampling.on_repeat)(value)
            return replace(settings, sampling=replace(sampling, on_repeat=mode))
        if key == "think":
            return replace(settings, think=_SWITCH[value])
        if key == "max-tokens":
            limit = None if value == "none" else int(value)
            _check(None if limit is None else limit - 1, float("inf"))
            return replace(settings, max_tokens=limit)
        if key == "think-budget":
            budget = None if value == "none" else int(value)
            _check(budget, float("inf"))
            return replace(settings, think_budget=budget)
        if key == "template":
            return replace(settings, template=_template(value))
        if key not in _SAMPLING:
            raise LocalmtpError(f"unknown setting `{key}`", hint=f"one of {', '.join(KEYS)}")
        name, parse = _SAMPLING[key]
        number = parse(value)
        if number is not None and violated_range(name, number):
            raise ValueError(number)
        field: dict[str, Any] = {name: number}
        return replace(settings, sampling=replace(settings.sampling, **field))
    except (ValueError, KeyError) as error:
        raise LocalmtpError(f"invalid {key} `{value}`", hint=KEYS.get(key, "")) from error


def carried_over(old: Settings, default: Settings, new: Settings) -> Settings:
    """Returns the settings of a conversation that continues with another model.

    Args:
        old: current settings.
        default: settings of the old model when it was loaded; differences were set by the user.
        new: settings of the new model when it was loaded.
    """
    sampling = new.sampling if old.sampling == default.sampling else old.sampling
    return replace(old, sampling=sampling, template=new.template)


def formatted(settings: Settings, key: str) -> str:
    """Formats a setting as `changed` parses it."""
    if key == "draft":
        return "auto" if settings.n_draft is None else str(settings.n_draft)
    if key == "on-full":
        return settings.on_full
    if key == "on-repeat":
        return settings.sampling.on_repeat
    if key == "think":
        return "on" if settings.think else "off"
    if key == "max-tokens":
        return str(settings.max_tokens or "none")
    if key == "think-budget":
        return "none" if settings.think_budget is None else str(settings.think_budget)
    if key == "template":
        return settings.template or OWN_TEMPLATE
    value = getattr(settings.sampling, _SAMPLING[key][0])
    return "random" if value is None else str(value)


def check_for(session: Session, settings: Settings) -> None:
    """Checks that a session can follow settings.

    Raises:
        LocalmtpError: it cannot.
    """
    if settings.template and not session.template:
        raise LocalmtpError(
            "the server renders the prompts, with its own template",
            hint="start the server with another one",
        )


def template_in_use(session: Session) -> str:
    """Describes the values of `template`, and which one a session uses."""
    if not session.template:
        return "the server's own"
    return f"{KEYS['template']}; in use: {session.template}"


def _template(value: str) -> str:
    """Returns the path of a template that was read; empty for the model's own.

    Raises:
        LocalmtpError: it cannot be read, or is no template.
    """
    if value in (OWN_TEMPLATE, ""):
        return ""
    from localmtp.engine.text.template_file import read_template

    path = Path(value).expanduser().absolute()
    read_template(path)
    return str(path)


def _check(number: float | None, maximum: float) -> None:
    if number is not None and not 0 <= number <= maximum:
        raise ValueError(number)
