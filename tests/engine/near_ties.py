"""Comparison of greedy answers, which may differ at near-ties only."""

from collections.abc import Sequence

import numpy as np

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence

ROUNDING = 0.6
"""Larger than any difference of logits from rounding that was observed on any machine."""


def assert_differ_at_near_ties_only(
    sequence: TargetSequence, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]
) -> None:
    """Fails where two continuations of a prompt differ and the target's choice is no near-tie."""
    at = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), None)  # noqa: B905
    if at is None:
        assert len(one) == len(other)
        return
    second, first = np.sort(prefill(sequence, [*prompt, *one[:at]])[0])[-2:]
    assert first - second < ROUNDING, (at, one[at - 3 : at + 3], other[at - 3 : at + 3])
