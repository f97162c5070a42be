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

    def settle(self, drafted: int, accepted: int, draft_s: float, verify_s: float) -> None:
        """How the round ended: tokens verified and accepted, seconds drafting and verifying."""

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

    def settle(self, drafted: int, accepted: int, draft_s: float, verify_s: float) -> None:
        """Nothing is learned."""


LONGEST = 8
"""Longest automatic draft: beyond it even predictable text gains less than a miss costs."""

_WARM_UP = (2, 0, 1, 3)
"""Lengths of the first rounds, so that the cost of a pass is measured at several, 0 included."""

_LEARN = 0.1
"""Weight of a new sample: the last ten passes count most, so that a change of text shows soon."""

_CLAMP = 0.25
"""A sample moves an estimate by a quarter of it at most: one stall of the machine must not make a
length look too dear to be tried again, since then nothing would ever correct it."""

_FIRST_GROWTH = 0.15
"""Before it was measured: what a row adds to a pass, relative to the pass of one row. Between a
GPU (a few percent) and a CPU (most of a pass)."""

_PROBE_AFTER, _PROBE_AT_MOST = 16, 256
"""Rounds without drafts before one is tried again, doubled each time it does not pay: at the
limit a probe costs less than half a percent."""


class AutoPacing:
    """Drafts as long as the expected tokens are worth more than the time they take.

    Time is priced at the rate achieved lately, `r` tokens per second: going from a draft of i
    tokens to one of m gains the probabilities of reaching each of them and costs r times the
    draft steps and the growth of the verification pass. Going on pays if any m gains more than it
    costs, which looks over the stairs that pass costs have on CPUs. With `r` the rate of the
    policy itself this is Dinkelbach's method for maximising tokens per time.
    """

    def __init__(self) -> None:
        self._pass_s: list[float] = [0.0] * (LONGEST + 1)  # by draft length; 0: not measured
        self._step_s = 0.0
        self._confidence = [0.7] * LONGEST  # typical, by position
        self._trust = 1.0  # accepted / what the confidences promised
        self._tokens, self._seconds = 0.0, 0.0  # decayed sums; their ratio is the rate
        self._rounds = 0
        self._idle, self._probe_after = 0, _PROBE_AFTER
        self._forced = -1
        self._limit = self._length = 0
        self._reach = 1.0
        self._promised = 0.0

    @property
    def state(self) -> str:
        """Why nothing is drafted, when nothing is."""
        if not self._idle:
            return "on"
        plain = 1.0 / self._cost(0)
        drafted = (1.0 + self._trust * self._confidence[0]) / (self._cost(1) + self._step_s)
        return f"off: drafting would be {max(0.0, 1.0 - drafted / plain):.0%} slower here"

    def begin(self, limit: int) -> None:
        """Warm up, probe, or leave it to the estimates."""
        self._limit = min(limit, LONGEST)
        self._length, self._reach, self._promised = 0, 1.0, 0.0
        self._forced = -1
        if self._rounds < len(_WARM_UP):
            self._forced = min(_WARM_UP[self._rounds], self._limit)
        elif self._idle >= self._probe_after:
            self._forced = min(1, self._limit)

    def go_on(self) -> bool:
        """Whether some longer draft is expected to pay for its steps and its verification."""
        if self._forced >= 0:
            return self._length < self._forced
        gain, reach = 0.0, self._reach * self._trust
        here, price = self._cost(self._length), self._tokens / self._seconds
        for m in range(self._length, self._limit):
            reach *= self._confidence[m]
            gain += reach
            steps = m + 1 - self._length
            if gain > price * (self._cost(m + 1) - here + steps * self._step_s):
                return True
        return False

    def keep(self, confidence: float) -> bool:
        """Whether this token, its draft step paid already, is worth a row of verification."""
        at = self._length
        self._confidence[at] += _LEARN * (confidence - self._confidence[at])
        reach = self._reach * confidence
        if self._forced < 0:
            price = self._tokens / self._seconds
            growth = self._cost(at + 1) - self._cost(at)
            if self._trust * reach < price * growth and not self._pays_deeper(reach, price):
                return False
        self._reach = reach
        self._promised += reach
        self._length += 1
        return True

    def _pays_deeper(self, reach: float, price: float) -> bool:
        gain = self._trust * reach
        reach *= self._trust
        here = self._cost(self._length)
        for m in range(self._length + 1, self._limit):
            reach *= self._confidence[m]
            gain += reach
            steps = m - self._length
            if gain > price * (self._cost(m + 1) - here + steps * self._step_s):
                return True
        return False

    def settle(self, drafted: int, accepted: int, draft_s: float, verify_s: float) -> None:
        """Learn costs, acceptance and the rate from a finished round."""
        if drafted <= LONGEST:
            self._pass_s[drafted] = _blend(self._pass_s[drafted], verify_s)
        if drafted:
            self._step_s = _blend(self._step_s, draft_s / drafted)
            self._trust += _LEARN * (min(1.5, accepted / self._promised) - self._trust)
            self._trust = min(1.2, max(0.2, self._trust))
        decay = 1.0 - _LEARN / 4
        self._tokens = self._tokens * decay + accepted + 1
        self._seconds = self._seconds * decay + draft_s + verify_s
        self._rounds += 1
        if drafted == 0:
            self._idle += 1
        elif self._forced == 1 and self._idle:
            self._idle, self._probe_after = 1, min(2 * self._probe_after, _PROBE_AT_MOST)
        else:
            self._idle, self._probe_after = 0, _PROBE_AFTER

    def _cost(self, length: int) -> float:
        """Seconds of a verification pass, interpolated between measured lengths."""
        if self._pass_s[length]:
            return self._pass_s[length]
        below = max((n for n in range(length) if self._pass_s[n]), default=-1)
        above = min((n for n in range(length, LONGEST + 1) if self._pass_s[n]), default=-1)
        if below < 0:
            return self._pass_s[above] if above >= 0 else 1.0
        base = self._pass_s[below]
        if above < 0:
            first = self._pass_s[0] or base
            growth = (base - first) / below if below else _FIRST_GROWTH * first
            return base + growth * (length - below)
        share = (length - below) / (above - below)
        return base + share * (self._pass_s[above] - base)


def _blend(estimate: float, sample: float) -> float:
    if not estimate:
        return sample
    bound = _CLAMP * estimate
    return estimate + _LEARN * max(-bound, min(bound, sample - estimate))
