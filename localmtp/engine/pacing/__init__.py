"""Decides how many tokens to draft, from times and probabilities alone.

A drafter asks `should_draft` before every draft step and `should_verify` after it. Both see the
drafter's confidence and never the token drawn: whether a position is verified depends only on
distributions and on earlier tokens, so speculative sampling stays exact.
"""

from localmtp.engine.pacing.auto import AutoPolicy
from localmtp.engine.pacing.calibration import Calibration
from localmtp.engine.pacing.cost_model import CostModel, Outcome
from localmtp.engine.pacing.plan import RoundPlan
from localmtp.engine.pacing.policy import DraftPolicy, FixedPolicy
from localmtp.engine.pacing.state import PacingState

__all__ = [
    "AutoPolicy",
    "Calibration",
    "CostModel",
    "DraftPolicy",
    "FixedPolicy",
    "Outcome",
    "PacingState",
    "RoundPlan",
]
