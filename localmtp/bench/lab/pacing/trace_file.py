"""Traces as JSON lines: costs in the first line, then one line per round."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from math import inf
from pathlib import Path

from localmtp.atomic import atomic_write
from localmtp.engine.decoding.trace import Round
from localmtp.errors import LocalmtpError
from localmtp.limits import MAX_AUTO_DRAFT


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Costs of drafting and verification; only their ratios matter."""

    name: str
    pass_s: tuple[float, ...]
    """Seconds of a verification pass, by draft length from 0."""
    step_s: float
    """Seconds of a draft step."""


@dataclass(frozen=True, slots=True)
class TracedAnswer:
    """The rounds of one answer; in a full trace, one for each token."""

    workload: str
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class FullTrace:
    """A trace with full-length drafts at every position."""

    model: str
    curve: CostCurve
    """Measured on the machine that recorded the trace."""
    answers: tuple[TracedAnswer, ...]


def write(path: Path, trace: FullTrace) -> None:
    """Write a full trace.

    Raises:
        LocalmtpError: it cannot be written.
    """
    head = {"model": trace.model, "full": True, **asdict(trace.curve)}
    rows = (
        {"answer": number, "workload": answer.workload, **asdict(made)}
        for number, answer in enumerate(trace.answers)
        for made in answer.rounds
    )
    _write_lines(path, chain([head], rows))


def write_rounds(path: Path, rounds: Iterable[Round]) -> None:
    """Writes the rounds of one answer.

    Raises:
        LocalmtpError: they cannot be written.
    """
    _write_lines(path, map(asdict, rounds))


def _write_lines(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with atomic_write(path) as file:
        file.writelines(json.dumps(row).encode() + b"\n" for row in rows)


def read(path: Path) -> FullTrace:
    """Read a full trace.

    Raises:
        LocalmtpError: it cannot be read, is damaged, or is not a full trace.
    """
    try:
        head, *rows = map(json.loads, path.read_text("utf-8").splitlines())
        full = head.get("full", False)
        curve = CostCurve(
            str(head["name"]), tuple(map(float, head["pass_s"])), float(head["step_s"])
        )
        answers: dict[int, tuple[str, list[Round]]] = {}
        for row in rows:
            _, rounds = answers.setdefault(row.pop("answer"), (row.pop("workload"), []))
            row.pop("workload", None)
            rounds.append(Round(**{**row, "confidence": tuple(row["confidence"])}))
        if not _is_consistent(curve, (r for _, rounds in answers.values() for r in rounds)):
            raise ValueError("inconsistent numbers")
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LocalmtpError(
            f"{path} is not a trace to replay on",
            hint=f"record one: localmtp bench trace MODEL {path.name}",
        ) from error
    if not full or not answers:
        raise LocalmtpError(
            f"{path} is not a full trace", hint="record one with `localmtp bench trace`"
        )
    return FullTrace(
        head["model"], curve, tuple(TracedAnswer(w, tuple(r)) for w, r in answers.values())
    )


def _is_consistent(curve: CostCurve, rounds: Iterable[Round]) -> bool:
    """Return whether costs are positive, and drafts no longer than what is known of them."""
    return all(0 < cost < inf for cost in (*curve.pass_s, curve.step_s)) and all(
        0 <= r.accepted <= r.drafted <= len(r.confidence)
        and r.drafted < min(len(curve.pass_s), MAX_AUTO_DRAFT + 1)
        and all(0 <= confidence <= 1 for confidence in r.confidence)
        for r in rounds
    )
