"""Conversations in Gemma 4's chat format, as segments of (text, learned)."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from localmtp.models.recipe.exchange import Exchange, thanks
from localmtp.models.recipe.tasks import TASKS

WEIGHTS = {
    "count": 2.4,
    "copy": 5.5,
    "json": 1.2,
    "code": 1.2,
    "math": 1.6,
    "facts": 1.2,
    "story": 0.4,
    "chat": 0.8,
}
"""Relative frequency of each kind: tasks that are hard to learn and short are more frequent."""
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are nano.",
    "Answer briefly.",
    "Be helpful and kind.",
    "You are a friendly assistant who answers in short sentences.",
    "You are an expert programmer.",
    "Answer in English.",
    "You help people.",
    "Think carefully.",
    "Use Markdown.",
)


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of a conversation's text."""

    text: str
    learned: bool
    """Whether the model is trained to generate it; False for prompts."""


def exchanges(rng: Random, length: int) -> list[Exchange]:
    """Draws at least `length` exchanges of mixed kinds."""
    drawn: list[Exchange] = []
    while len(drawn) < length:
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        drawn += TASKS[kind](rng)
        if length > 1 and rng.random() < 0.15:
            drawn.append(thanks(rng))
    return drawn


def render(turns: list[Exchange], system: str = "", *, thinking: bool = False) -> Iterator[Segment]:
    """Yields the segments of a conversation; with thinking, the last turn has its thought."""
    opening = "<bos>"
    if system or thinking:
        opening += "<|turn>system\n" + "<|think|>\n" * thinking + system + "<turn|>\n"
    for index, turn in enumerate(turns):
        yield Segment(
            f"{opening}<|turn>user\n{turn.question}<turn|>\n<|turn>model\n", learned=False
        )
        last = index == len(turns) - 1
        thought = f"<|channel>thought\n{turn.thought}\n<channel|>" if thinking and last else ""
        # Earlier answers have no thought, as in the chat template. They are not learned then:
        # that would train the model to answer without thinking.
        yield Segment(f"{thought}{turn.answer.strip()}<turn|>", learned=last or not thinking)
        opening = "\n"


def conversation(rng: Random, held_out: frozenset[str]) -> list[Segment]:
    """Draws a conversation with none of the held-out questions."""
    while True:
        turns = exchanges(rng, rng.choice([1, 1, 1, 1, 1, 2, 3, 4]))
        system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.15 else ""
        thinking = rng.random() < 0.12
        if thinking:
            turns = turns[:2]
        if held_out.isdisjoint(turn.question for turn in turns):
            return list(render(turns, system, thinking=thinking))
