"""Results of a report, saved as JSON next to the files, from where model cards include them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localmtp.atomic import atomic_write_text
from localmtp.errors import LocalmtpError

SUFFIX = ".report.json"
"""A report is named after the model: NAME.report.json."""

_MAX_BYTES = 1 << 20
"""Longest report that is read."""


@dataclass(frozen=True, slots=True)
class TargetScore:
    """Quality of a target on the text."""

    file: str
    """File name; the first part's for a split model."""
    quant: str
    perplexity: float
    kl_divergence: float | None
    """Mean over the positions in nats, from the reference; None for the reference itself."""
    top1_agreement: float | None
    """Fraction of positions with the same most likely token as the reference; None for it."""

    def row(self) -> tuple[str, ...]:
        """Format the score as one row under `TARGET_COLUMNS`."""
        divergence, agreement = self.kl_divergence, self.top1_agreement
        return (
            self.file,
            f"{self.perplexity:.4g}",
            "reference" if divergence is None else f"{divergence:.5f}",
            "" if agreement is None else f"{agreement:.1%}",
        )


@dataclass(frozen=True, slots=True)
class DrafterScore:
    """Acceptance of a drafter's drafts by its target, decoding greedily."""

    file: str
    quant: str
    acceptance_by_position: Sequence[float]
    """[i]: acceptance rate at draft position i + 1."""
    tokens_per_pass: float

    def row(self) -> tuple[str, ...]:
        """Format the score as one row under `drafter_columns`."""
        rates = (f"{rate:.0%}" for rate in self.acceptance_by_position)
        return (self.file, *rates, f"{self.tokens_per_pass:.2f}")


TARGET_COLUMNS = ("target", "perplexity", "KL divergence", "same top token")


def drafter_columns(scores: Sequence[DrafterScore]) -> tuple[str, ...]:
    """Column titles, one per draft position; all scores have the same draft length."""
    positions = range(len(scores[0].acceptance_by_position))
    return ("drafter", *(f"draft {i + 1}" for i in positions), "tokens/pass")


@dataclass(frozen=True, slots=True)
class Report:
    """Scores of all files of one run on the same text."""

    text: str
    """Name of the text: `default`, or a file name."""
    positions: int
    """Number of predicted tokens."""
    reference: str
    """File name of the most precise target, to which all other files are compared."""
    targets: Sequence[TargetScore]
    drafters: Sequence[DrafterScore]

    def save(self, path: Path) -> None:
        """Write the report as JSON.

        Raises:
            LocalmtpError: it cannot be written.
        """
        atomic_write_text(path, json.dumps(asdict(self), indent=1) + "\n")


def read_report(path: Path) -> Report:
    """Read a saved report.

    Raises:
        LocalmtpError: the file is not a report.
    """
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(_MAX_BYTES))
        targets = [TargetScore(**score) for score in raw.pop("targets")]
        drafters = [DrafterScore(**score) for score in raw.pop("drafters")]
        report = Report(targets=targets, drafters=drafters, **raw)
        for row in (*map(TargetScore.row, targets), *map(DrafterScore.row, drafters)):
            " ".join(row)  # fails for values of another type
        return report
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise LocalmtpError(
            f"{path} is not a report of `localmtp convert`",
            hint="remove it, or run `localmtp convert --report` again",
        ) from error
