"""Batches of packed token rows for training, and held-out prompts."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from localmtp.atomic import atomic_write_text
from localmtp.models.recipe.conversation import Segment, conversation
from localmtp.models.recipe.tasks import TASKS

HELD_OUT_SEED, TOKENIZER_SEED, TRAINING_SEED, DISTILLATION_SEED = 7, 1, 2, 4
HELD_OUT_PER_KIND = 16
"""Maximum number of held-out prompts per kind."""
HELD_OUT_DRAWS = 1500
"""Exchanges drawn per kind, from which rare ones are held out."""

Draw = Callable[[Random], list[Segment]]
"""Draws a conversation to train on."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A batch of packed conversations; all arrays have the shape [rows, length + 1]."""

    ids: np.ndarray
    """Token ids, int64."""
    weight: np.ndarray
    """Weight of each token in the loss, float32.

    0 for prompts; 1 / sqrt(n) in a model's turn of n tokens, so that long easy answers (counting)
    do not dominate short hard ones (copying); 1 for the last token of a turn, so that the end of
    long answers is learned.
    """
    document: np.ndarray
    """Number of the conversation within its row, int32."""


def held_out() -> dict[str, list[str]]:
    """Draws held-out prompts by kind, those with long answers first.

    Only questions that were drawn once are held out; frequent ones stay in training.
    """
    rng = Random(HELD_OUT_SEED)
    prompts = {}
    for kind, task in TASKS.items():
        drawn = [task(rng)[0] for _ in range(HELD_OUT_DRAWS)]
        times = Counter(exchange.question for exchange in drawn)
        rare = [exchange for exchange in drawn if times[exchange.question] == 1][:48]
        rare.sort(key=lambda exchange: -len(exchange.answer))
        half = HELD_OUT_PER_KIND // 2
        prompts[kind] = [exchange.question for exchange in [*rare[:half], *rare[-half:]]]
    return prompts


def generated() -> Draw:
    """Returns a function that draws conversations of the tasks without held-out prompts."""
    withheld = frozenset(prompt for prompts in held_out().values() for prompt in prompts)
    return lambda rng: conversation(rng, withheld)


def texts(draw: Draw, count: int) -> Iterator[str]:
    """Yields `count` conversations without control tokens, for training the tokenizer."""
    rng = Random(TOKENIZER_SEED)
    for _ in range(count):
        text = "".join(segment.text for segment in draw(rng))
        for token in ("<bos>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>"):
            text = text.replace(token, "\n")
        yield text


def batches(draw: Draw, directory: Path, rows: int, length: int, seed: int) -> Iterator[TokenBatch]:
    """Yields batches indefinitely; each row packs several conversations, beginning with a new one.

    Args:
        draw: draws conversations.
        directory: has the tokenizer.
        rows: number of rows.
        length: number of predicted tokens per row.
        seed: seed of the draws.
    """
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    rng = Random(seed)
    while True:
        packed = [_row(tokenizer, rng, draw, length) for _ in range(rows)]
        yield TokenBatch(*(np.stack(column) for column in zip(*packed, strict=True)))


def _row(
    tokenizer: Tokenizer, rng: Random, draw: Draw, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids: list[int] = []
    weight: list[float] = []
    document: list[int] = []
    number = 0
    while len(ids) < length + 1:
        for segment in draw(rng):
            encoded = tokenizer.encode(segment.text, add_special_tokens=False).ids
            ids += encoded
            weight += [segment.learned / len(encoded) ** 0.5] * (len(encoded) - 1)
            weight.append(segment.learned)
            document += [number] * len(encoded)
        number += 1
    return (
        np.array(ids[: length + 1], np.int64),
        np.array(weight[: length + 1], np.float32),
        np.array(document[: length + 1], np.int32),
    )


def write_prompts(prompts: Mapping[str, Sequence[str]], path: Path) -> None:
    """Writes held-out prompts as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(prompts, indent=1, ensure_ascii=False) + "\n")
