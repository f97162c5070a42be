"""Acceptance rates of drafted tokens by confidence, and of copied tokens by length of match."""

from __future__ import annotations

from bisect import bisect
from math import exp, log

_EDGES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.995)
"""Bounds of the confidence levels; finer near 1, where long drafts are decided."""

_PRIOR_ACCEPTED = (0.15, 0.28, 0.43, 0.58, 0.73, 0.86, 0.95, 0.985, 0.999)
"""Prior: the acceptance rate equals the drafter's confidence."""

_PRIOR_SHARE = (0.06, 0.06, 0.06, 0.08, 0.08, 0.08, 0.08, 0.2, 0.3)
"""Prior share of steps at each level, typical of trained drafters on mixed text."""

_LEARN = 0.02
"""Smallest weight of a new result: about the last fifty count. Enough that bad luck does not look
like a bad drafter, few enough to follow a change of sampling."""

_PRIOR_VERDICTS = 10
"""Weight of the prior, in verified tokens: calibration takes a few dozen passes."""

_FORGIVE = 0.005
"""Share by which every round without a draft moves the estimates back to the prior: a drafter that
is not tried cannot show that it has improved."""

_STALE = 0.1
"""Share by which a review moves the estimate of a level that was not tried recently."""

_CERTAIN = 0.99
"""Bound of probabilities in log-odds: beyond it a few results would move them far."""

_FORGET = 0.97
"""Decay of the level counts per step: about thirty steps count, so that a change from prose to code
takes effect within ten passes."""

_LARGE = 1e6
"""Weights are scaled back here, long before they overflow."""

_PROBE_WEIGHT = 4.0
"""Weight of a probing step while drafting is off: probes are rare, and must be able to end the
pause."""

_MATCH_EDGES = (4, 6, 10, 20)
"""Bounds of the match levels, in matching tokens before the copy."""

_PRIOR_COPIED = (0.4, 0.55, 0.7, 0.85, 0.95)
"""A long match is rarely chance."""


class AcceptanceTable:
    """Acceptance rate by level, learned from verified drafts.

    Args:
        prior: acceptance rate of each level before anything was verified.
    """

    def __init__(self, prior: tuple[float, ...]) -> None:
        self.accepted = list(prior)
        """Probability that a token is accepted, given that those before it are; by level."""
        self.measured = False
        """Whether a verified draft has changed the rates."""
        self._prior = prior
        self._verdicts = [_PRIOR_VERDICTS] * len(prior)

    def record(self, levels: list[int], accepted: int) -> None:
        """Learns from a verified draft.

        Args:
            levels: of its tokens.
            accepted: number of accepted tokens.
        """
        self.measured = True
        known, verdicts = self.accepted, self._verdicts
        for i, level in enumerate(levels[: accepted + 1]):
            verdicts[level] += 1
            known[level] += max(_LEARN, 1 / verdicts[level]) * ((i < accepted) - known[level])

    def paused(self, rounds: int) -> None:
        """Moves towards the prior after rounds in which nothing was verified."""
        nearer = 1 - (1 - _FORGIVE) ** rounds
        for level, prior in enumerate(self._prior):
            self.accepted[level] += nearer * (prior - self.accepted[level])

    def load(self, accepted: list[float]) -> None:
        """Restores saved rates.

        Raises:
            ValueError: the number of levels differs.
        """
        if len(accepted) != len(self._prior):
            raise ValueError("another number of levels")
        self.accepted = [min(1.0, max(0.0, float(a))) for a in accepted]


class CopyAcceptance(AcceptanceTable):
    """Acceptance rate of tokens copied from the context, by length of the match."""

    def __init__(self) -> None:
        super().__init__(_PRIOR_COPIED)

    @staticmethod
    def level(match: int) -> int:
        """Level of a match of this many tokens."""
        return bisect(_MATCH_EDGES, match)


class DraftAcceptance(AcceptanceTable):
    """Acceptance rate of drafted tokens by confidence, and the share of each level."""

    def __init__(self) -> None:
        super().__init__(_PRIOR_ACCEPTED)
        self._seen = [share / (1 - _FORGET) for share in _PRIOR_SHARE]
        self._weight = 1.0
        self._reviewed = list(self._verdicts)

    def review(self) -> None:
        """Raises the estimates of levels that were not tried recently.

        Levels too low to be verified are never calibrated, although the drafter may be better than
        its confidence. Until they are tried, the difference in log-odds at the next higher level is
        assumed for them too.
        """
        shift = 0.0
        for level in reversed(range(len(self.accepted))):
            known, verdicts = self.accepted[level], self._verdicts[level]
            prior = _log_odds(self._prior[level])
            if verdicts > self._reviewed[level]:
                shift = _log_odds(known) - prior
                continue
            assumed = 1 / (1 + exp(-prior - shift))
            if assumed > known:
                new = verdicts <= _PRIOR_VERDICTS
                self.accepted[level] += (1.0 if new else _STALE) * (assumed - known)
            self._verdicts[level] = max(_PRIOR_VERDICTS, int((1 - _STALE) * verdicts))
        self._reviewed = list(self._verdicts)

    @staticmethod
    def level(confidence: float) -> int:
        """Level of a confidence in 0..1."""
        return bisect(_EDGES, confidence)

    @property
    def share(self) -> list[float]:
        """Probability of each level at the next step; sums to 1."""
        total = sum(self._seen)
        return [seen / total for seen in self._seen]

    @share.setter
    def share(self, share: list[float]) -> None:
        if len(share) != len(_PRIOR_SHARE):
            raise ValueError("another number of levels")
        self._seen = [max(1e-6, float(s)) / (1 - _FORGET) for s in share]
        self._weight = 1.0

    @property
    def mean(self) -> float:
        """Probability that a single draft token is accepted."""
        return sum(s * a for s, a in zip(self.share, self.accepted, strict=True))

    def record_steps(self, levels: list[int], *, probe: bool = False) -> None:
        """Counts the levels of a draft's steps.

        Args:
            levels: levels of all steps, including a last token that was not verified.
            probe: whether the step was a probe.
        """
        for level in levels:
            # Weights of new counts grow, instead of decaying all old ones.
            self._weight /= _FORGET
            self._seen[level] += self._weight * (_PROBE_WEIGHT if probe else 1.0)
        if self._weight > _LARGE:
            self._seen = [seen / self._weight for seen in self._seen]
            self._weight = 1.0


def _log_odds(probability: float) -> float:
    bounded = min(_CERTAIN, max(1 - _CERTAIN, probability))
    return log(bounded / (1 - bounded))
