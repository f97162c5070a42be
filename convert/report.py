"""What quantization costs, kept as JSON beside the files so that a model card can show it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localmtp.errors import LocalmtpError

SUFFIX = ".report.json"
"""A report is called after the model: NAME.report.json."""


@dataclass(frozen=True, slots=True)
class TargetScore:
    """How a target predicts the text."""

    file: str
    """Its name, of a model in parts the first part's."""
    quant: str
    perplexity: float
    kl_divergence: float | None
    """Mean over the positions, in nats, from the reference; None for the reference itself."""
    top1_agreement: float | None
    """Part of the positions at which the likeliest token is the reference's."""


@dataclass(frozen=True, slots=True)
class DrafterScore:
    """How much of a drafter's drafts its target accepts, both greedy."""

    file: str
    quant: str
    acceptance_by_position: Sequence[float]
    """Of the drafts that got that far, how many were accepted."""
    tokens_per_pass: float


@dataclass(frozen=True, slots=True)
class Report:
    """Every file of one run on the same text."""

    text: str
    """What it was measured on: `default`, or a file's name."""
    positions: int
    """Tokens that were predicted."""
    reference: str
    """The most precise target: what the others, and the drafters, are held against."""
    targets: Sequence[TargetScore]
    drafters: Sequence[DrafterScore]

    def save(self, path: Path) -> None:
        """Write it beside `path` and rename."""
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        partial.replace(path)


def read_report(path: Path) -> Report:
    """A report that was saved.

    Raises:
        LocalmtpError: it is not one.
    """
    try:
        raw = json.loads(path.read_bytes())
        targets = [TargetScore(**score) for score in raw.pop("targets")]
        drafters = [DrafterScore(**score) for score in raw.pop("drafters")]
        return Report(targets=targets, drafters=drafters, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LocalmtpError(
            f"{path} is not a report of localmtp convert", hint="remove it, or make it anew"
        ) from error
