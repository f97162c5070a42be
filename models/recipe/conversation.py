"""Conversations in Gemma 4's chat format, as (text, learned) parts."""

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
"""How often each kind opens a turn: what is hard to learn and short comes more often."""
SYSTEMS = (
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
class Part:
    """A stretch of a conversation; only what the model is to write is learned."""

    text: str
    learned: bool


def exchanges(rng: Random, length: int) -> list[Exchange]:
    """Draws at least length exchanges of mixed kinds."""
    drawn: list[Exchange] = []
    while len(drawn) < length:
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        drawn += TASKS[kind](rng)
        if length > 1 and rng.random() < 0.15:
            drawn.append(thanks(rng))
    return drawn


def render(turns: list[Exchange], system: str = "", *, thinking: bool = False) -> Iterator[Part]:
    """Yields the parts of a conversation; with thinking on only the last turn keeps its thought."""
    opening = "<bos>"
    if system or thinking:
        opening += "<|turn>system\n" + "<|think|>\n" * thinking + system + "<turn|>\n"
    for index, turn in enumerate(turns):
        yield Part(f"{opening}<|turn>user\n{turn.question}<turn|>\n<|turn>model\n", learned=False)
        last = index == len(turns) - 1
        thought = f"<|channel>thought\n{turn.thought}\n<channel|>" if thinking and last else ""
        # An earlier answer of a thinking conversation stands without its thought, as the template
        # leaves it: learning to write that would unlearn thinking.
        yield Part(f"{thought}{turn.answer.strip()}<turn|>", learned=last or not thinking)
        opening = "\n"


def conversation(rng: Random, held_out: frozenset[str]) -> list[Part]:
    """Draws a conversation that asks none of the held-out questions."""
    while True:
        turns = exchanges(rng, rng.choice([1, 1, 1, 1, 1, 2, 3, 4]))
        system = rng.choice(SYSTEMS) if rng.random() < 0.15 else ""
        thinking = rng.random() < 0.12
        if thinking:
            turns = turns[:2]
        if held_out.isdisjoint(turn.question for turn in turns):
            return list(render(turns, system, thinking=thinking))
