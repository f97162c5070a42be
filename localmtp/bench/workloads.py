"""What models are asked when they are measured: prompts by kind of text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources

from localmtp.models.resolution import NANO

Workloads = Mapping[str, Sequence[str]]
"""Prompts by the name of their workload."""


def workloads_for(model: str, prompts: int) -> Workloads:
    """The workloads that a model is measured on.

    Args:
        model: its name; `nano` knows little, and gets prompts of the kinds it was trained on, which
            were held out from its training.
        prompts: of each workload, at most; the ones with the longest answers come first.
    """
    if model == NANO:
        text = (resources("localmtp.models") / "nano" / "prompts.json").read_text("utf-8")
        found: Workloads = json.loads(text)
    else:
        text = (resources("localmtp.bench") / "workloads.toml").read_text("utf-8")
        found = tomllib.loads(text)
    return {name: tuple(listed[:prompts]) for name, listed in found.items()}
