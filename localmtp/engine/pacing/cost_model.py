"""Costs of rounds, by number of threads and number of answers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from localmtp.engine.pacing.auto import AutoPolicy
from localmtp.engine.pacing.calibration import Calibration
from localmtp.engine.pacing.plan import RoundPlan
from localmtp.engine.pacing.policy import DraftPolicy
from localmtp.engine.pacing.row_costs import RowCosts

_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64)
"""Batch sizes that are measured separately; a pass of 13 answers costs about as much as one of
16."""


class Outcome(NamedTuple):
    """Result of a round for one answer."""

    policy: DraftPolicy
    drafted: int
    """Tokens verified, including copied ones."""
    steps: int
    """Draft steps, including one for a last token that was not verified."""
    tokens: int
    """Tokens gained."""


class CostModel:
    """Plans rounds from measured costs.

    Drafting is reduced as the batch grows, as far as measurements demand, and returns as it
    shrinks. Every batch size has its own plan, which starts from the measurements of other sizes.
    Every number of threads has its own plans.

    Args:
        saved: costs of an earlier run, from `dump`.
        compiles: whether the first pass of a number of rows compiles kernels, as GPUs do. It is not
            measured, nor are draft steps before it.
    """

    def __init__(self, saved: Mapping[str, Any] | None = None, *, compiles: bool = False) -> None:
        self._saved = saved or {}
        self._compiled: set[tuple[int, int, bool]] | None = set() if compiles else None
        """Rounds that have run: rows, answers, and whether there were draft steps."""
        self._threads = 1
        self._rows = RowCosts()
        self._plans: dict[int, RoundPlan] = {}
        """By number of answers, for the current number of threads."""
        self._of_threads = {1: (self._rows, self._plans)}
        self._latest_rows = 0  # of the last pass; 0 if it was not a round

    @property
    def plain_tokens_per_s(self) -> float:
        """Rounds of one answer without a draft per second of verification; 0 if not measured."""
        return self.plan(1).plain_tokens_per_s

    def dump(self) -> dict[str, Any]:
        """JSON-ready costs of single answers for the next run, by number of threads."""
        measured = {
            str(threads): plans[1].costs.dump()
            for threads, (_, plans) in self._of_threads.items()
            if 1 in plans and plans[1].costs.pass_s[0] and plans[1].costs.step_s
        }
        return {**self._saved, **measured}

    def set_threads(self, threads: int) -> None:
        """Selects the costs for a number of threads, marked as stale."""
        if threads == self._threads:
            return
        self._threads = threads
        self._rows, self._plans = self._of_threads.setdefault(threads, (RowCosts(), {}))
        for plan in set(self._plans.values()):
            plan.expire()

    def policy(self, calibration: Calibration) -> AutoPolicy:
        """Returns a policy for a new answer."""
        return AutoPolicy(calibration, self.plan(1))

    def plan(self, answers: int) -> RoundPlan:
        """Returns the plan of rounds with this number of answers."""
        plan = self._plans.get(answers)
        if plan is None:
            size = _SIZES[min(bisect_left(_SIZES, answers), len(_SIZES) - 1)]
            plan = self._plans.get(size)
            if plan is None:
                nearest = min(self._plans, key=lambda other: abs(other - size), default=size)
                near = self._plans.get(nearest)
                saved = self._saved.get(str(self._threads)) if size == 1 else None
                plan = RoundPlan(size, self._rows, near.costs if near else None, saved)
                self._plans[size] = plan
            self._plans[answers] = plan
        return plan

    def begin_round(self, answers: int, *, automatic: bool = True) -> RoundPlan:
        """Begins a round.

        Args:
            answers: number of answers.
            automatic: whether any of them has automatic pacing; others have fixed lengths.
        """
        plan = self.plan(answers)
        if automatic:
            plan.begin()
        return plan

    def interrupt(self) -> None:
        """Notes a pass outside rounds: the next pass has another number of rows."""
        self._latest_rows = 0

    def end_round(
        self,
        plan: RoundPlan,
        outcomes: Iterable[Outcome],
        draft_s: float,
        verify_s: float,
        *,
        drafted: bool,
    ) -> None:
        """Learns the cost of the round.

        Args:
            plan: from `begin_round`.
            outcomes: results of all answers. Rows of answers with fixed draft lengths are part of
                every pass, and not decided on.
            draft_s: seconds of drafting.
            verify_s: seconds of the pass and of acceptance.
            drafted: whether any token of a draft was verified.
        """
        if plan.resting and not drafted:
            plan.rest(draft_s + verify_s)
            return
        count = verified = steps = tokens = automatic = rows = 0
        for policy, length, taken, gained in outcomes:
            count += 1
            rows += length
            if policy.automatic:
                automatic += 1
                verified += length
                tokens += gained
                steps = max(steps, taken)
        rows += count
        same, self._latest_rows = rows == self._latest_rows, rows
        if not automatic or self._compiles(rows, count, steps > 0):
            return
        if same or rows > count:
            self._rows.record(rows, verify_s - (0.0 if same else plan.change_s))
        plan.end(verified / automatic, steps, tokens / automatic, draft_s, verify_s, same=same)

    def _compiles(self, rows: int, answers: int, drafted: bool) -> bool:
        """Reports whether a round compiled kernels, which only the first of its kind does."""
        known, kind = self._compiled, (rows, answers, drafted)
        if known is None or kind in known:
            return False
        known.add(kind)
        return True
