"""Questions with the answers that the model learns."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Exchange:
    """One user turn and the model turn that answers it."""

    question: str
    answer: str
    thought: str
    """The model's thought before the answer, used with thinking on."""


Task = Callable[[Random], list[Exchange]]
"""Draws a question with its answer, sometimes followed by a question that refers to it."""


def thanks(rng: Random) -> Exchange:
    """Draws a closing courtesy, which can follow every task."""
    question = rng.choice(["thanks", "Thank you!", "Thanks a lot.", "Great, thank you.", "thx"])
    answer = rng.choice(["You are welcome!", "You are welcome. Ask me for more.", "Any time!"])
    return Exchange(question, answer, "The user thanks me. I answer politely.")
