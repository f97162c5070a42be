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
    usual: int = -1
    """The length that most rounds should have, as changing it takes time; -1: none."""


ALWAYS = Thresholds([0.0] * 64, [0.0] * 64, 0.0)


@dataclass(frozen=True, slots=True)
class Policies:
    """Ways to go about changes of length, of which the best is chosen."""

    charges: np.ndarray
    """[policies, lengths] of seconds: what a round of each length takes besides its pass."""
    usual: Sequence[int]
    """See `Thresholds`."""


FREE = Policies(np.zeros((1, 1)), (-1,))
"""Changes take no time."""


def alone(change_s: float, longest: int) -> Policies:
    """Of one answer: it keeps to a usual length, and pays for leaving it and for coming back."""
    return Policies(2.0 * change_s * (1.0 - np.eye(longest + 1)), range(longest + 1))


def beside(change_s: float, longest: int) -> Policies:
    """Of several answers: if they draft, their rows are hardly ever as many as the round before."""
    plain = [0.0] + [2.0 * change_s] * longest
    return Policies(np.array([plain, [change_s] * (longest + 1)]), (0, -1))


def thresholds(
    pass_s: Sequence[float],
    step_s: float,
    rate: float,
    accepted: Sequence[float],
    share: Sequence[float],
    policies: Policies = FREE,
) -> Thresholds:
    """Solve one round.

    Args:
        pass_s: seconds of a verification pass, by draft length 0..N.
        step_s: seconds of a draft step.
        rate: tokens per second that time is worth.
        accepted: probability of acceptance by level of confidence.
        share: how often each level occurs.
        policies: to choose from.
    """
    longest = len(pass_s) - 1
    odds, weight = np.maximum(accepted, 1e-9), np.asarray(share)
    # Multiplying R by a level's odds moves so many places down the grid.
    places = np.rint(np.log(odds) / np.log(_RATIO)).astype(np.intp)
    down = np.minimum(np.arange(_REACH.size)[:, None] + places, _REACH.size - 1)
    plain = -rate * pass_s[0]
    # [lengths, policies, 1]; in what follows [policies, R] and [policies, R, levels].
    stop = -rate * (np.asarray(pass_s) + policies.charges).T[..., None]
    step = rate * step_s
    best = np.repeat(stop[longest], _REACH.size, axis=1)
    go_on, keep = [], []
    for n in range(longest - 1, -1, -1):
        kept = _REACH + best
        keep.append(np.count_nonzero(kept >= stop[n], axis=1))
        going = np.maximum(kept[:, down], stop[n][..., None]) @ weight - step
        go_on.append(np.count_nonzero(going > stop[n], axis=1))
        best = np.maximum(going, stop[n])
    policy = int(np.argmax(best[:, 0]))
    return Thresholds(
        [*(_least(count[policy]) for count in reversed(go_on)), NEVER],
        [*(_least(count[policy]) for count in reversed(keep)), NEVER],
        float(best[policy, 0] - plain),
        policies.usual[policy],
    )


def _least(count: int) -> float:
    """The smallest of the `count` largest R, where it pays; what pays at R pays above it."""
    return float(_REACH[count - 1]) if count else NEVER
