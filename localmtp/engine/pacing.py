"""How many tokens to draft: pure arithmetic on times and probabilities.

A drafter asks `go_on` before every draft step and `keep` after it. Both see the drafter's
confidence and nothing of the token drawn, so that sampling stays exact.
"""

from __future__ import annotations

from typing import Protocol


class Pacing(Protocol):
    """Decides the length of a draft, step by step."""

    def begin(self, limit: int) -> None:
        """A new round, in which at most `limit` tokens can be drafted."""

    def go_on(self) -> bool:
        """Whether another draft step is worth its cost."""

    def keep(self, confidence: float) -> bool:
        """Whether the token of that step is worth verifying; if not, the draft ends before it."""

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """How the round ended: tokens accepted, seconds spent drafting and verifying."""

    @property
    def state(self) -> str:
        """`on`, or `off: REASON`."""


class FixedPacing:
    """Always the same length, 0 included."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._left = 0
        self.state = "on" if length else "off: --n-draft 0"

    def begin(self, limit: int) -> None:
        """As many as asked for, if they fit."""
        self._left = min(self._length, limit)

    def go_on(self) -> bool:
        """Until the length is reached."""
        return self._left > 0

    def keep(self, confidence: float) -> bool:
        """Always."""
        self._left -= 1
        return True

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Nothing is learned."""


LONGEST = 8
"""Longest automatic draft: beyond it even predictable text gains less than a miss costs."""

_WARM_UP = (2, 0, 1, 3)
"""Lengths of the first rounds, so that the cost of a pass is measured at several, 0 included."""

_LEARN = 0.1
"""Weight of a new sample: the last ten count most, so that a change of text shows soon."""

_CLAMP = 0.25
"""A sample moves a cost by a quarter of it at most: one stall of the machine must not make a
length look so dear that it is never tried again."""

_MEMORY = 0.975
"""Decay per round of the sums behind rate and trust: about the last forty rounds count."""

_FIRST_GROWTH = 0.15
"""Before it was measured: what a row adds to a pass, relative to the pass of one row. Between a
GPU (a few percent) and a CPU (most of a pass)."""

_REFILL = 8
"""Rounds between two looks at the costs: they move slowly, and filling their gaps takes about as
long as everything else that pacing does in a round."""

_LOOK_SHARE = 0.01
"""While nothing is drafted, a draft step is taken now and then to see whether the text has become
predictable; so seldom that all of them together cost a hundredth of the time."""

_LOOK_WEIGHT = 0.5
"""Such a look replaces half of an estimate that is old by then."""

_FORGIVE = 0.01
"""While nothing is drafted, trust in the drafter recovers by this much of what is missing per
round: without being tried it could never be regained."""


class AutoPacing:
    """Drafts as long as the expected tokens are worth more than the time they take.

    Time is priced at the rate achieved lately, `r` tokens per second: going from a draft of i
    tokens to one of m gains the probabilities of reaching each of them and costs r times the
    draft steps and the growth of the verification pass. Going on pays if any m gains more than it
    costs, which looks over the stairs that pass costs have on CPUs. With `r` the rate of the
    policy itself this is Dinkelbach's method for maximising tokens per time.
    """

    def __init__(self) -> None:
        self._pass_s = [0.0] * (LONGEST + 1)  # by draft length; 0: not measured yet
        self._costs = [1.0] * (LONGEST + 1)  # the same, gaps filled in
        self._step_s = 0.0
        self._confidence = [0.7] * LONGEST  # typical, by position
        self._tokens = self._seconds = 0.0  # decayed; their ratio is the rate
        self._accepted = self._promised = 1.0  # decayed; their ratio is the trust
        self._rounds = self._idle = 0
        # Of the running round:
        self._limit = self._length = self._steps = 0
        self._forced = -1
        self._looking = False
        self._reach = 1.0
        self._hope = 0.0

    @property
    def state(self) -> str:
        """Why nothing is drafted, when nothing is."""
        if not self._idle:
            return "on"
        plain = 1.0 / self._costs[0]
        drafted = (1.0 + self._trust * self._confidence[0]) / (self._costs[1] + self._step_s)
        slower = round(100 * (1.0 - drafted / plain))
        if slower < 1:
            return "off: drafting would not be faster here"
        return f"off: drafting would be {slower} % slower here"

    def begin(self, limit: int) -> None:
        """Warm up, have a look, or leave it to the estimates."""
        self._limit = min(limit, LONGEST)
        self._length = self._steps = 0
        self._reach, self._hope = 1.0, 0.0
        warming = self._rounds < len(_WARM_UP)
        self._forced = min(_WARM_UP[self._rounds], self._limit) if warming else -1
        self._looking = (
            self._idle * _LOOK_SHARE * self._costs[0] >= self._step_s > 0 and self._limit > 0
        )

    def go_on(self) -> bool:
        """Whether some longer draft is expected to pay for its steps and its verification."""
        if self._forced >= 0:
            return self._length < self._forced
        if self._looking and not self._steps:
            return True
        return self._pays(self._length, self._reach, gain=0.0)

    def keep(self, confidence: float) -> bool:
        """Whether this token, its draft step paid already, is worth a row of verification."""
        at, reach = self._length, self._reach * confidence
        weight = _LOOK_WEIGHT if self._looking else _LEARN
        self._confidence[at] += weight * (confidence - self._confidence[at])
        self._steps += 1
        if self._forced < 0:
            gain = self._trust * reach
            growth = self._costs[at + 1] - self._costs[at]
            if gain < self._price * growth and not self._pays(at + 1, reach, gain):
                return False
        self._reach = reach
        self._hope += reach
        self._length += 1
        return True

    def settle(self, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learn costs, acceptance and the rate from a finished round."""
        length = self._length
        first = not self._pass_s[length]
        self._pass_s[length] = _blend(self._pass_s[length], verify_s)
        if first or self._rounds % _REFILL == 0:
            self._costs = _filled(self._pass_s)
        if self._steps:
            self._step_s = _blend(self._step_s, draft_s / self._steps)
        if length:
            self._accepted = self._accepted * _MEMORY + accepted
            self._promised = self._promised * _MEMORY + self._hope
            self._idle = 0
        else:
            self._accepted += _FORGIVE * (self._promised - self._accepted)
            self._idle = 1 if self._looking else self._idle + 1
        self._tokens = self._tokens * _MEMORY + accepted + 1
        self._seconds = self._seconds * _MEMORY + draft_s + verify_s
        self._rounds += 1

    @property
    def _trust(self) -> float:
        """Accepted tokens per token that the drafter's confidences promised."""
        return self._accepted / self._promised

    @property
    def _price(self) -> float:
        """Tokens that a second is worth."""
        return self._tokens / self._seconds

    def _pays(self, at: int, reach: float, gain: float) -> bool:
        """Whether drafting on from `at` tokens pays at some length.

        Args:
            at: tokens drafted, the last one perhaps not decided on.
            reach: the probability that all of them are accepted.
            gain: what the undecided one promises.
        """
        costs, confidence = self._costs, self._confidence
        price, step = self._price, self._step_s
        reach *= self._trust
        spent = -costs[at - 1 if gain else at]
        for m in range(at, self._limit):
            reach *= confidence[m]
            gain += reach
            spent += step
            if gain > price * (costs[m + 1] + spent):
                return True
        return False


def _blend(estimate: float, sample: float) -> float:
    if not estimate:
        return sample
    bound = _CLAMP * estimate
    return estimate + _LEARN * max(-bound, min(bound, sample - estimate))


def _filled(measured: list[float]) -> list[float]:
    """Seconds of a pass for every draft length, on straight lines between the measured ones.

    Never more than decoding the rows one by one: a first sample may have met a stall.
    """
    known = [n for n, seconds in enumerate(measured) if seconds]
    plain = measured[known[0]]
    costs = []
    for n in range(len(measured)):
        below = max((k for k in known if k <= n), default=0)
        above = min((k for k in known if k >= n), default=0)
        base = measured[below] or plain
        if above > below:
            growth = (measured[above] - base) / (above - below)
        else:
            growth = (base - plain) / below if below else _FIRST_GROWTH * plain
        costs.append(min(base + growth * (n - below), plain * (n + 1)))
    return costs
