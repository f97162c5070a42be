"""What models are asked when they are measured: prompts by kind of text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.models.resolution import NANO

Workloads = Mapping[str, Sequence[str]]
"""Prompts by the name of their workload."""

_FORM = 'prompts by workload, as in: letters = ["Write to the landlord.", "Thank aunt Ines."]'


def workloads_for(model: str, prompts: int, own: Workloads | None = None) -> Workloads:
    """The workloads that a model is measured on.

    Args:
        model: its name; `nano` knows little, and gets prompts of the kinds it was trained on, which
            were held out from its training.
        prompts: of each workload, at most; the ones with the longest answers come first.
        own: to be used instead; see `workloads_in`.
    """
    if own is not None:
        found = own
    elif model == NANO:
        text = (resources("localmtp.models") / "nano" / "prompts.json").read_text("utf-8")
        found = json.loads(text)
    else:
        text = (resources("localmtp.bench") / "workloads.toml").read_text("utf-8")
        found = tomllib.loads(text)
    return {name: tuple(listed[:prompts]) for name, listed in found.items()}


def workloads_in(path: str | Path) -> Workloads:
    """The workloads of a user's own file.

    Args:
        path: TOML, or JSON if it is called so: lists of prompts by workload.

    Raises:
        LocalmtpError: it cannot be read, or holds something else.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise LocalmtpError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LocalmtpError(f"{file} is not text in UTF-8", hint=_FORM) from error
    except (ValueError, RecursionError) as error:
        raise LocalmtpError(f"{file}: {error}", hint=_FORM) from error
    if not (isinstance(found, dict) and found and all(map(_are_prompts, found.values()))):
        raise LocalmtpError(f"{file} does not hold lists of prompts", hint=_FORM)
    return found


def _are_prompts(listed: object) -> bool:
    return (
        isinstance(listed, list)
        and bool(listed)
        and all(isinstance(prompt, str) and prompt.strip() for prompt in listed)
    )
