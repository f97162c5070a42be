"""What quantization costs, kept as JSON beside the files so that a model card can show it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localmtp.atomic import atomic_write_text
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

    def row(self) -> tuple[str, ...]:
        """As `TARGET_COLUMNS` name it."""
        divergence, agreement = self.kl_divergence, self.top1_agreement
        return (
            self.file,
            f"{self.perplexity:.4g}",
            "reference" if divergence is None else f"{divergence:.5f}",
            "" if agreement is None else f"{agreement:.1%}",
        )


@dataclass(frozen=True, slots=True)
class DrafterScore:
    """How much of a drafter's drafts its target accepts, both greedy."""

    file: str
    quant: str
    acceptance_by_position: Sequence[float]
    """[i]: accepted at draft position i + 1, of those drafted there."""
    tokens_per_pass: float

    def row(self) -> tuple[str, ...]:
        """As `drafter_columns` names it."""
        rates = (f"{rate:.0%}" for rate in self.acceptance_by_position)
        return (self.file, *rates, f"{self.tokens_per_pass:.2f}")


TARGET_COLUMNS = ("target", "perplexity", "KL divergence", "same top token")


def drafter_columns(scores: Sequence[DrafterScore]) -> tuple[str, ...]:
    """One column for each draft position; all were drafted to the same length."""
    positions = range(len(scores[0].acceptance_by_position))
    return ("drafter", *(f"draft {i + 1}" for i in positions), "tokens per pass")


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
        """Writes it as JSON.

        Raises:
            LocalmtpError: it cannot be written.
        """
        atomic_write_text(path, json.dumps(asdict(self), indent=1) + "\n")


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
