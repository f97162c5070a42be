"""Where two greedy texts may part: at tokens that rounding alone decides between."""

from collections.abc import Sequence

import numpy as np

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence

ROUNDING = 0.6
"""More than any two ways of computing a logit were seen to differ by, on any machine."""


def part_at_near_ties_only(
    sequence: TargetSequence, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]
) -> None:
    """Fail where the two continuations of a prompt differ and the target had a clear favourite."""
    at = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), None)  # noqa: B905
    if at is None:
        assert len(one) == len(other)
        return
    second, first = np.sort(prefill(sequence, [*prompt, *one[:at]])[0])[-2:]
    assert first - second < ROUNDING, (at, one[at - 3 : at + 3], other[at - 3 : at + 3])
