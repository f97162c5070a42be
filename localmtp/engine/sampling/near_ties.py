"""Near-ties of greedy decoding, where rounding may decide.

A pass over several rows sums in another order than a pass over one, so logits differ in the last
bits. Where the two best tokens are closer than that, drafting can change the choice.
"""

from __future__ import annotations

import numpy as np

from localmtp.engine.llama import Floats

NEAR_TIE = 0.2
"""Twice the largest observed change of the gap between the two best logits (0.09, on nano).

There 999 of 1000 positions agree to the last bit. In the others an activation is rounded to another
of the 255 steps of quantized products, and all logits move. `localmtp verify` measures it."""


def first_near_tie(logits: Floats, bound: float) -> int | None:
    """Returns the first row whose two largest logits differ by less than `bound`, or None.

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
