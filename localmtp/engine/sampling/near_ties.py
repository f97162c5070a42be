"""Near-ties of greedy decoding: where rounding alone may decide.

A pass over several rows adds up in another order than a pass over one, and its logits differ in the
last bits; where the two best tokens are closer than that, drafting could change the choice.
"""

from __future__ import annotations

import numpy as np

from localmtp.engine.llama import Floats

NEAR_TIE = 0.2
"""Twice the largest change of a gap between the two best logits that was seen: 0.09, on nano.

There some 999 of 1000 positions agree to the last bit; then an activation is rounded to another of
the 255 steps that quantized products have, and all logits move. `localmtp verify` measures it."""


def first_near_tie(logits: Floats, bound: float) -> int | None:
    """The first row whose two largest logits differ by less than `bound`.

    Args:
        logits: [rows, n_vocab]; unchanged afterwards.
        bound: in logits.
    """
    for row, values in enumerate(logits):
        best = int(values.argmax())
        top = values[best]
        values[best] = -np.inf
        gap = top - values.max()
        values[best] = top
        if gap < bound:
            return row
    return None
