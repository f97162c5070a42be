"""Counting, number sequences and times tables."""

from collections.abc import Sequence
from random import Random

from localmtp.models.recipe.exchange import Exchange


def _written(rng: Random, numbers: Sequence[int]) -> str:
    if len(numbers) <= 60 and rng.random() < 0.2:
        return "\n".join(map(str, numbers))
    return ", ".join(map(str, numbers))


def _up_to(rng: Random) -> int:
    return rng.choice([rng.randint(3, 20), rng.randint(10, 60), rng.choice([10, 20, 50, 100, 120])])


def _plain(rng: Random) -> list[Exchange]:
    start = rng.choice([1, 1, 1, 0, rng.randint(2, 90)])
    end = start + _up_to(rng)
    if start == 1:
        end -= 1
    forms = [
        "Count from {a} to {b}.",
        "count from {a} to {b}",
        "Please count from {a} up to {b}.",
        "List the numbers from {a} to {b}.",
        "Can you count from {a} to {b}?",
        "Write all numbers between {a} and {b}.",
    ]
    if start == 1:
        forms += ["Count to {b}.", "count to {b}", "Please count to {b}."]
    numbers = range(start, end + 1)
    first = Exchange(
        rng.choice(forms).format(a=start, b=end),
        _written(rng, numbers),
        f"I count from {start} to {end} in steps of 1.",
    )
    if len(numbers) > 40 or rng.random() < 0.6:
        return [first]
    question = rng.choice(
        ["Now backwards.", "now in reverse", "And backwards?", "Now in reverse, please."]
    )
    back = ", ".join(map(str, reversed(numbers)))
    return [first, Exchange(question, back, f"Backwards: from {end} down to {start}.")]


def _stepped(rng: Random) -> list[Exchange]:
    step = rng.choice([2, 3, 4, 5, 5, 10, 10, 20, 25, 50, 100])
    start = rng.choice([0, step, step, rng.randint(1, 20)])
    end = start + step * rng.choice([rng.randint(4, 12), rng.randint(8, 40)])
    form = rng.choice(
        [
            "Count from {a} to {b} in steps of {s}.",
            "Count by {s}s from {a} to {b}.",
            "Count in steps of {s} from {a} to {b}.",
            "count from {a} to {b} by {s}",
        ]
    )
    numbers = range(start, end + 1, step)
    return [
        Exchange(
            form.format(a=start, b=end, s=step),
            _written(rng, numbers),
            f"I start at {start} and add {step} until {end}.",
        )
    ]


def _down(rng: Random) -> list[Exchange]:
    end = rng.choice([0, 1, 1, rng.randint(2, 30)])
    start = end + rng.choice([rng.randint(4, 15), rng.randint(10, 60), 99])
    form = rng.choice(
        [
            "Count down from {a} to {b}.",
            "Count backwards from {a} to {b}.",
            "Do a countdown from {a} to {b}.",
        ]
    )
    numbers = range(start, end - 1, -1)
    return [
        Exchange(
            form.format(a=start, b=end), _written(rng, numbers), f"I go down from {start} to {end}."
        )
    ]


def _table(rng: Random) -> list[Exchange]:
    factor = rng.randint(2, 15)
    rows = rng.choice([10, 10, 10, 12, 20])
    form = rng.choice(
        [
            "Write the times table of {n}",
            "Show me the {n} times table",
            "Multiplication table for {n}",
            "What is the times table of {n}",
        ]
    )
    question = form.format(n=factor) + ("." if rows == 10 else f" up to {rows}.")
    if rng.random() < 0.35:
        question += " As a table."
        lines = [f"| {i} | {factor} × {i} | {factor * i} |" for i in range(1, rows + 1)]
        answer = "| n | product | result |\n|---|---|---|\n" + "\n".join(lines)
    else:
        answer = "\n".join(f"{factor} × {i} = {factor * i}" for i in range(1, rows + 1))
    return [Exchange(question, answer, f"I multiply {factor} by 1 to {rows}.")]


def _special(rng: Random) -> list[Exchange]:
    size = rng.randint(5, 20)
    name, numbers = rng.choice(
        [
            ("even numbers", [2 * i for i in range(1, size + 1)]),
            ("odd numbers", [2 * i - 1 for i in range(1, size + 1)]),
            ("square numbers", [i * i for i in range(1, size + 1)]),
            ("powers of two", [2**i for i in range(1, size + 1)]),
        ]
    )
    form = rng.choice(["List the first {k} {n}.", "Write the first {k} {n}.", "Give me {k} {n}."])
    return [
        Exchange(
            form.format(k=size, n=name),
            ", ".join(map(str, numbers)),
            f"I write the first {size} {name}.",
        )
    ]


def count(rng: Random) -> list[Exchange]:
    """Draws a counting exercise with an answer of up to about 500 tokens."""
    forms = [_plain, _plain, _plain, _stepped, _stepped, _down, _table, _table, _special]
    return rng.choice(forms)(rng)
