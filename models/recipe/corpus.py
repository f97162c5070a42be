"""Packed rows of tokens for training, and the prompts held out from them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

from localmtp.atomic import atomic_write_text
from localmtp.models.recipe.conversation import Part, conversation
from localmtp.models.recipe.tasks import TASKS

HELD_OUT_SEED, TOKENIZER_SEED, TRAINING_SEED, DISTILLATION_SEED = 7, 1, 2, 4
HELD_OUT_PER_KIND = 16
HELD_OUT_DRAWS = 1500

Draw = Callable[[Random], list[Part]]
"""Draws a conversation to train on."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch: ids, weight and document all have the shape [rows, length].

    The weight is 0 where nothing is learned. In a model's turn of n tokens it is 1 / sqrt(n) each,
    or long easy answers (counting) would drown short hard ones (copying); and 1 for the last one,
    or where a long answer ends would hardly be learned at all.
    """

    ids: np.ndarray
    weight: np.ndarray
    document: np.ndarray


def held_out() -> dict[str, list[str]]:
    """Draws prompts by kind, each kind's longer answers first.

    Only questions that came up once among many are withheld: what everybody asks stays in training.
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
    """Conversations of the tasks, without the prompts that are held out."""
    withheld = frozenset(prompt for prompts in held_out().values() for prompt in prompts)
    return lambda rng: conversation(rng, withheld)


def texts(draw: Draw, count: int) -> Iterator[str]:
    """Yields conversations without control tokens, to train the tokenizer on."""
    rng = Random(TOKENIZER_SEED)
    for _ in range(count):
        parts = draw(rng)
        text = "".join(part.text for part in parts)
        for token in ("<bos>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>"):
            text = text.replace(token, "\n")
        yield text


def batches(draw: Draw, directory: Path, rows: int, length: int, seed: int) -> Iterator[Rows]:
    """Yields batches without end; each row starts with a conversation and packs several."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    rng = Random(seed)
    while True:
        packed = [_row(tokenizer, rng, draw, length) for _ in range(rows)]
        yield Rows(*(np.stack(column) for column in zip(*packed, strict=True)))


def _row(
    tokenizer: Tokenizer, rng: Random, draw: Draw, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids: list[int] = []
    weight: list[float] = []
    document: list[int] = []
    number = 0
    while len(ids) < length + 1:
        for part in draw(rng):
            encoded = tokenizer.encode(part.text, add_special_tokens=False).ids
            ids += encoded
            weight += [part.learned / len(encoded) ** 0.5] * (len(encoded) - 1) + [part.learned]
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
