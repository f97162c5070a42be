"""What a drafter's confidence, or a match in the context, is worth: how often it is right."""

from __future__ import annotations

from bisect import bisect
from math import exp, log

_EDGES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.995)
"""Levels of confidence lie between these; finer near 1, where long drafts are decided."""

_PRIOR_ACCEPTED = (0.15, 0.28, 0.43, 0.58, 0.73, 0.86, 0.95, 0.985, 0.999)
"""Before anything was verified a drafter is taken at its word."""

_PRIOR_SHARE = (0.06, 0.06, 0.06, 0.08, 0.08, 0.08, 0.08, 0.2, 0.3)
"""Of all steps, how many have which level: about what trained drafters show on mixed text."""

_LEARN = 0.02
"""Least weight of a new verdict: some fifty decide, enough that bad luck does not look like a bad
drafter, few enough to follow another way of sampling."""

_PRIOR_VERDICTS = 10
"""What the prior weighs: the first verdicts count as a mean with so many others, and calibrate
within a few dozen passes."""

_FORGIVE = 0.005
"""While nothing is drafted, every round brings what is known so much nearer to the prior: a drafter
that is not tried could otherwise never show that it has become better."""

_STALE = 0.1
"""Of what is known of a level that was not tried lately, so much is given up at every review."""

_CERTAIN = 0.99
"""Beyond it log-odds say little: a few more verdicts move them far."""

_FORGET = 0.97
"""Decay per step of how often a level was seen: some thirty steps count, so that a change from
prose to code shows within ten passes."""

_LARGE = 1e6
"""Weights are scaled back here, long before they overflow."""

_LOOK_WEIGHT = 4.0
"""Of a step taken to have a look while nothing is drafted: looks are rare, and what they find
must be able to end the pause."""

_MATCH_EDGES = (4, 6, 10, 20)
"""Levels of a copy, by how many tokens before it agree."""

_PRIOR_COPIED = (0.4, 0.55, 0.7, 0.85, 0.95)
"""A long match is rarely chance."""


class Calibration:
    """How often tokens are accepted, by level, learned from verdicts.

    Args:
        prior: to begin with.
    """

    def __init__(self, prior: tuple[float, ...]) -> None:
        self.accepted = list(prior)
        """Probability that a token is accepted, those before it accepted."""
        self._prior = prior
        self._verdicts = [_PRIOR_VERDICTS] * len(prior)

    def judged(self, levels: list[int], accepted: int) -> None:
        """Learn from a verified draft, of whose tokens the first `accepted` were right."""
        known, verdicts = self.accepted, self._verdicts
        for i, level in enumerate(levels[: accepted + 1]):
            verdicts[level] += 1
            known[level] += max(_LEARN, 1 / verdicts[level]) * ((i < accepted) - known[level])

    def paused(self, rounds: int) -> None:
        """Forget with time while nothing is verified."""
        nearer = 1 - (1 - _FORGIVE) ** rounds
        for level, prior in enumerate(self._prior):
            self.accepted[level] += nearer * (prior - self.accepted[level])

    def load(self, accepted: list[float]) -> None:
        """Go on from what was learned before.

        Raises:
            ValueError: it has other levels.
        """
        if len(accepted) != len(self._prior):
            raise ValueError("other levels")
        self.accepted = [min(1.0, max(0.0, float(a))) for a in accepted]


class Copies(Calibration):
    """What a match in the context is worth."""

    def __init__(self) -> None:
        super().__init__(_PRIOR_COPIED)

    @staticmethod
    def level(match: int) -> int:
        """Where a match of so many tokens belongs."""
        return bisect(_MATCH_EDGES, match)


class Chances(Calibration):
    """What a drafter's confidence is worth, and the confidences to expect."""

    def __init__(self) -> None:
        super().__init__(_PRIOR_ACCEPTED)
        self._seen = [share / (1 - _FORGET) for share in _PRIOR_SHARE]
        self._weight = 1.0
        self._reviewed = list(self._verdicts)

    def review(self) -> None:
        """Hope of levels that were not tried lately what the next surer one has shown.

        Only tokens that are kept are judged. A drafter that is better than its word would never
        show it where its word is too weak to be kept: that it is better elsewhere, in log-odds, is
        expected to hold there too, until it was tried.
        """
        shift = 0.0
        for level in reversed(range(len(self.accepted))):
            known, verdicts = self.accepted[level], self._verdicts[level]
            prior = _log_odds(self._prior[level])
            if verdicts > self._reviewed[level]:
                shift = _log_odds(known) - prior
                continue
            hoped = 1 / (1 + exp(-prior - shift))
            if hoped > known:
                new = verdicts <= _PRIOR_VERDICTS
                self.accepted[level] += (1.0 if new else _STALE) * (hoped - known)
            self._verdicts[level] = max(_PRIOR_VERDICTS, int((1 - _STALE) * verdicts))
        self._reviewed = list(self._verdicts)

    @staticmethod
    def level(confidence: float) -> int:
        """Where a confidence in 0..1 belongs."""
        return bisect(_EDGES, confidence)

    @property
    def share(self) -> list[float]:
        """How often each level is to be expected of the next step; adds up to 1."""
        total = sum(self._seen)
        return [seen / total for seen in self._seen]

    @share.setter
    def share(self, share: list[float]) -> None:
        if len(share) != len(_PRIOR_SHARE):
            raise ValueError("other levels")
        self._seen = [max(1e-6, float(s)) / (1 - _FORGET) for s in share]
        self._weight = 1.0

    @property
    def mean(self) -> float:
        """The probability that a single draft token is accepted."""
        return sum(s * a for s, a in zip(self.share, self.accepted, strict=True))

    def saw(self, levels: list[int], *, looking: bool = False) -> None:
        """Count the levels of a draft's steps."""
        for level in levels:
            # Newer counts weigh more, which is the same as older ones weighing less.
            self._weight /= _FORGET
            self._seen[level] += self._weight * (_LOOK_WEIGHT if looking else 1.0)
        if self._weight > _LARGE:
            self._seen = [seen / self._weight for seen in self._seen]
            self._weight = 1.0


def _log_odds(probability: float) -> float:
    bounded = min(_CERTAIN, max(1 - _CERTAIN, probability))
    return log(bounded / (1 - bounded))
