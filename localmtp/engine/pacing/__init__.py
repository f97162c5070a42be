"""How many tokens to draft: pure arithmetic on times and probabilities.

A drafter asks `go_on` before every draft step and `keep` after it. Both see the drafter's
confidence and nothing of the token drawn: whether a position is verified then depends only on
distributions and on tokens before it, and speculative sampling stays exact.
"""

from localmtp.engine.pacing.auto import AutoPacing
from localmtp.engine.pacing.learned import Learned
from localmtp.engine.pacing.protocol import FixedPacing, Pacing
from localmtp.engine.pacing.shared import Outcome, SharedPacing

__all__ = ["AutoPacing", "FixedPacing", "Learned", "Outcome", "Pacing", "SharedPacing"]
