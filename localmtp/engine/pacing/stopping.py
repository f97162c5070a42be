"""When to stop drafting: optimal stopping for tokens per second.

A round that drafts n tokens, kept alive with probability R, is worth the tokens it is expected to
bring less the time it takes, priced at the rate achieved so far (r tokens per second); with r the
rate of the policy itself, maximising this maximises tokens per second (Dinkelbach 1967). The next
token's confidence is not known before its step is paid for, only how often each level occurs, so
the best policy follows from backward induction over the draft's length and R (Chow, Robbins and
Siegmund 1971): it may buy a step that does not pay by itself for what may come after it, which is
how the first row of an expensive pass is ever paid, and looks over the stairs that passes have on
CPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RATIO = 0.94
"""Between neighbouring values of R: 6 % is finer than any of the estimates are."""

_REACH = _RATIO ** np.arange(64)
"""R from 1 to 0.02; below it no draft pays."""

NEVER = 2.0
"""A threshold that no probability reaches."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The least R at which it pays, by the number of tokens drafted before."""

    go_on: list[float]
    """To take another draft step."""
    keep: list[float]
    """To verify the token of that step, itself counted in R."""
    worth: float
    """Tokens that a round is expected to bring beyond a plain one, its time paid."""


ALWAYS = Thresholds([0.0] * 64, [0.0] * 64, 0.0)


def thresholds(
    pass_s: Sequence[float],
    step_s: float,
    rate: float,
    accepted: Sequence[float],
    share: Sequence[float],
) -> Thresholds:
    """Solve one round.

    Args:
        pass_s: seconds of a verification pass, by draft length 0..N.
        step_s: seconds of a draft step.
        rate: tokens per second that time is worth.
        accepted: probability of acceptance by level of confidence.
        share: how often each level occurs.
    """
    longest = len(pass_s) - 1
    odds, weight = np.maximum(accepted, 1e-9), np.asarray(share)
    # Multiplying R by a level's odds moves so many places down the grid.
    places = np.rint(np.log(odds) / np.log(_RATIO)).astype(np.intp)
    down = np.minimum(np.arange(_REACH.size)[:, None] + places, _REACH.size - 1)
    stop = -rate * np.asarray(pass_s)
    step = rate * step_s
    best = np.full(_REACH.size, stop[longest])
    go_on, keep = [NEVER] * (longest + 1), [NEVER] * (longest + 1)
    for n in range(longest - 1, -1, -1):
        kept = _REACH + best
        keep[n] = _least(kept >= stop[n])
        going = np.maximum(kept[down], stop[n]) @ weight - step
        go_on[n] = _least(going > stop[n])
        best = np.maximum(going, stop[n])
    return Thresholds(go_on, keep, float(best[0] - stop[0]))


def _least(pays: np.ndarray) -> float:
    """The smallest R of those where it pays; what pays at R pays above it."""
    count = int(np.count_nonzero(pays))
    return float(_REACH[count - 1]) if count else NEVER
