"""Benchmark prompts by kind of text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.models.embedded import NANO

Workloads = Mapping[str, Sequence[str]]
"""Prompts by workload name."""

_SPEED_BENCH = {
    "coding": "code",
    "humanities": "humanities",
    "math": "mathematics",
    "multilingual": "language",
    "qa": "questions",
    "rag": "rag",
    "reasoning": "reasoning",
    "roleplay": "roleplay",
    "stem": "stem",
    "summarization": "summary",
    "writing": "writing",
}
"""Names of the categories of SPEED-Bench's qualitative split, and those of our prompts."""

_FORM = 'prompts by workload, as in: letters = ["Write to the landlord.", "Thank aunt Ines."]'


def workloads_for(model: str, prompts: int, own: Workloads | None = None) -> Workloads:
    """Return the workloads for a model.

    Args:
        model: its name; `nano` gets held-out prompts of the kinds it was trained on.
        prompts: maximum per workload; those with the longest answers come first.
        own: used instead; see `workloads_in`.
    """
    if own is not None:
        found = own
    elif model == NANO:
        text = (resources("localmtp.models") / "nano" / "prompts.json").read_text("utf-8")
        found = json.loads(text)
    else:
        found = _packaged("workloads.toml")
    return {name: tuple(listed[:prompts]) for name, listed in found.items()}


def speed_bench(prompts: int) -> Workloads:
    """Return the eleven categories of SPEED-Bench's qualitative split, with texts of our own.

    Args:
        prompts: maximum per category.
    """
    ours = _packaged("workloads.toml") | _packaged("categories.toml")
    return {name: tuple(ours[own][:prompts]) for name, own in _SPEED_BENCH.items()}


def _packaged(name: str) -> dict[str, list[str]]:
    return tomllib.loads((resources("localmtp.bench") / name).read_text("utf-8"))


def workloads_in(path: str | Path) -> Workloads:
    """Read workloads from a file.

    Args:
        path: TOML, or JSON with the suffix .json: lists of prompts by workload.

    Raises:
        LocalmtpError: it cannot be read, or contains something else.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise LocalmtpError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LocalmtpError(f"{file} is not UTF-8 text", hint=_FORM) from error
    except (ValueError, RecursionError) as error:
        raise LocalmtpError(f"{file}: {error}", hint=_FORM) from error
    if not (isinstance(found, dict) and found and all(map(_are_prompts, found.values()))):
        raise LocalmtpError(f"{file} does not contain lists of prompts", hint=_FORM)
    return found


def _are_prompts(listed: object) -> bool:
    return (
        isinstance(listed, list)
        and bool(listed)
        and all(isinstance(prompt, str) and prompt.strip() for prompt in listed)
    )
