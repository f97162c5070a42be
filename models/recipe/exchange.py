"""What a task hands over: a question with the answer that the model shall learn."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Exchange:
    """One user turn and the model turn that answers it; thought is used with thinking on."""

    question: str
    answer: str
    thought: str


Task = Callable[[Random], list[Exchange]]
"""Draws a question with its answer, sometimes followed by one that refers back to it."""


def thanks(rng: Random) -> Exchange:
    """Draws a closing courtesy, which fits behind every task."""
    question = rng.choice(["thanks", "Thank you!", "Thanks a lot.", "Great, thank you.", "thx"])
    answer = rng.choice(["You are welcome!", "You are welcome. Ask me for more.", "Any time!"])
    return Exchange(question, answer, "The user thanks me. I answer politely.")
