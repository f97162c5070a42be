"""Optimal stopping of drafts, for tokens per second.

Let R be the probability that all drafts so far are accepted. The value of a round is its expected
number of tokens minus its time, priced at a rate r in tokens per second. With r the rate of the
policy itself, maximizing this maximizes tokens per second (Dinkelbach 1967). The confidence of the
next token is unknown until its step is paid for; only the share of each level is known. So the best
policy follows from backward induction over draft length and R (Chow, Robbins and Siegmund 1971). It
may take a step that does not pay by itself because of later ones: the first row of an expensive
pass, or the first beyond a step in the cost of CPU passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_RATIO = 0.94
"""Ratio of neighbouring values of R: 6 % is finer than any of the estimates."""

_PLACES = np.arange(64)

_REACH = _RATIO**_PLACES
"""Grid of R from 1 to 0.02; below it no draft pays."""

NEVER = 2.0
"""A threshold that no probability reaches."""


class Problem(NamedTuple):
    """What decides how long a draft of one round should be."""

    pass_s: Sequence[float]
    """Seconds of a verification pass by draft length 0..N."""
    step_s: float
    """Seconds of a draft step."""
    rate: float
    """Price of time in tokens per second."""
    accepted: Sequence[float]
    """Acceptance rate by confidence level."""
    share: Sequence[float]
    """Probability of each level."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Smallest R at which a step pays, by the number of tokens drafted so far."""

    draft: list[float]
    """R above which to take another draft step."""
    verify: list[float]
    """R, including that token, above which to verify the token of the step."""
    worth: float
    """Expected tokens of a round beyond those of a plain one, net of its time."""
    usual: int = -1
    """Usual draft length, if changes of length take time; -1 for none."""


NO_STEPS = Thresholds([NEVER] * 64, [NEVER] * 64, 0.0)
ALWAYS = Thresholds([0.0] * 64, [0.0] * 64, 0.0)


@dataclass(frozen=True, slots=True)
class Policies:
    """Alternative treatments of changes of length; the best one is chosen."""

    charges: np.ndarray
    """[policies, lengths]: additional seconds of a round of each length."""
    usual: Sequence[int]
    """See `Thresholds`."""


FREE = Policies(np.zeros((1, 1)), (-1,))
"""Changes are free."""


def single(change_s: float, longest: int) -> Policies:
    """Policies for one answer: a usual length, with the cost of leaving it and of returning."""
    return Policies(2.0 * change_s * (1.0 - np.eye(longest + 1)), range(longest + 1))


def batched(change_s: float, longest: int) -> Policies:
    """Policies for several answers, whose rows change in nearly every round if they draft."""
    plain = [0.0] + [2.0 * change_s] * longest
    return Policies(np.array([plain, [change_s] * (longest + 1)]), (0, -1))


def thresholds(problem: Problem, policies: Policies = FREE) -> Thresholds:
    """Solves one round.

    Args:
        problem: of one round.
        policies: alternatives; see `Policies`.
    """
    pass_s, step_s, rate, accepted, share = problem
    seconds = np.asarray(pass_s)
    longest = len(seconds) - 1
    odds = np.maximum(accepted, 1e-9)
    # Multiplying R by a level's acceptance rate moves down the grid by this number of places.
    places = np.rint(np.log(odds) / np.log(_RATIO)).astype(np.intp)
    after = np.minimum(_PLACES + places[:, None], _REACH.size - 1)
    # [R after, R before]: probability of each R after a step.
    chance = np.bincount(
        (after * _REACH.size + _PLACES).ravel(), np.repeat(share, _REACH.size), _REACH.size**2
    ).reshape(_REACH.size, _REACH.size)
    plain = -rate * seconds[0]
    # [lengths, policies, 1]; in what follows [policies, R].
    stop = -rate * (seconds + policies.charges).T[..., None]
    step = rate * step_s
    best = np.repeat(stop[longest], _REACH.size, axis=1)
    verifying, drafting = [], []
    for n in range(longest - 1, -1, -1):
        verifying.append(_REACH + best)
        drafting.append(np.maximum(verifying[-1], stop[n]) @ chance - step)
        best = np.maximum(drafting[-1], stop[n])
    policy = int(np.argmax(best[:, 0]))
    bound = stop[-2::-1, policy]
    draft = np.count_nonzero(np.array(drafting)[:, policy] > bound, axis=1)
    verify = np.count_nonzero(np.array(verifying)[:, policy] >= bound, axis=1)
    return Thresholds(
        [*map(_least, draft[::-1]), NEVER],
        [*map(_least, verify[::-1]), NEVER],
        float(best[policy, 0] - plain),
        policies.usual[policy],
    )


def ruled_out(problem: Problem, usual: int = -1) -> Thresholds | None:
    """Returns thresholds that never draft, if an upper bound shows that no draft pays.

    Costs after the first row are scaled by R, as tokens are, so the bound needs no grid: it takes a
    tenth of the time of `thresholds`, which short answers on small models notice.

    Args:
        problem: of one round.
        usual: see `Thresholds`.
    """
    pass_s, step_s, rate, accepted, share = problem
    levels = list(zip(share, accepted, strict=True))
    step = rate * step_s
    worth, least, verify = 0.0, rate * pass_s[-1], [NEVER]
    for n in range(len(pass_s) - 2, -1, -1):
        after, least = least, min(least, rate * pass_s[n])
        row = after - (least if n else rate * pass_s[0])
        token = 1.0 + worth
        worth = -step
        for probability, rate_accepted in levels:
            gain = rate_accepted * token - row
            if gain > 0.0:
                worth += probability * gain
        worth = max(worth, 0.0)
        verify.append(row / token)
    if worth > 0.0:
        return None
    never = [NEVER] * len(pass_s)
    return Thresholds(never, verify[::-1], 0.0, usual)


def _least(count: int) -> float:
    """Returns the smallest of the `count` largest R; a step that pays at R pays at any larger R."""
    return float(_REACH[count - 1]) if count else NEVER
