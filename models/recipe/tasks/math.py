"""Step-by-step arithmetic and small word problems."""

from random import Random

from localmtp.models.recipe.exchange import Exchange
from localmtp.models.recipe.lexicon import ITEMS, NAMES


def _by_places(a: int, b: int, sign: str) -> list[str]:
    """Returns the steps of a ± b through the tens and the units of b."""
    tens, units = b - b % 10, b % 10
    step = a + tens if sign == "+" else a - tens
    end = a + b if sign == "+" else a - b
    if not tens or not units:
        return [f"{a} {sign} {b} = {end}"]
    return [f"{a} {sign} {tens} = {step}", f"{step} {sign} {units} = {end}"]


def _multiplied(a: int, b: int) -> list[str]:
    """Returns the steps of a × b through the tens and the units of a."""
    tens, units = a - a % 10, a % 10
    if not tens or not units:
        return [f"{a} × {b} = {a * b}"]
    return [
        f"{tens} × {b} = {tens * b}",
        f"{units} × {b} = {units * b}",
        f"{tens * b} + {units * b} = {a * b}",
    ]


def _sum(rng: Random) -> list[Exchange]:
    sign = rng.choice("+-×+-")
    if sign == "×":
        a, b = rng.randint(2, 99), rng.randint(2, 9)
        steps, result = _multiplied(a, b), a * b
        word = "times"
    else:
        top = rng.choice([10, 50, 99])
        a, b = rng.randint(1, top), rng.randint(1, top)
        if sign == "-" and b > a:
            a, b = b, a
        steps = _by_places(a, b, sign)
        result = a + b if sign == "+" else a - b
        word = "plus" if sign == "+" else "minus"
    shown = rng.choice([sign, sign, sign, word, "*" if sign == "×" else sign])
    form = rng.choice(
        [
            "What is {a} {s} {b}?",
            "Calculate {a} {s} {b}.",
            "{a} {s} {b}",
            "{a} {s} {b} = ?",
            "Compute {a} {s} {b}.",
            "How much is {a} {s} {b}?",
        ]
    )
    question = form.format(a=a, b=b, s=shown)
    thought = "\n".join(steps)
    if rng.random() < 0.5:
        question += rng.choice([" Step by step.", " Show the steps."])
        return [Exchange(question, thought + f"\n\nThe answer is **{result}**.", thought)]
    return [Exchange(question, f"{a} {sign} {b} = **{result}**", thought)]


def _story(rng: Random) -> list[Exchange]:
    name, item = rng.choice(NAMES), rng.choice(ITEMS)
    a, b, c = rng.randint(5, 60), rng.randint(2, 30), rng.randint(2, 9)
    kind = rng.choice(["gets", "gives", "boxes", "both"])
    items = item + ("es" if item[-1] in "sxh" else "s")
    items = items.replace("ys", "ies") if item.endswith("rry") else items
    if kind == "gets":
        text = f"{name} has {a} {items} and gets {b} more. How many {items} does {name} have?"
        steps, result = _by_places(a, b, "+"), a + b
    elif kind == "gives":
        a += b
        text = f"{name} has {a} {items} and gives away {b}. How many {items} are left?"
        steps, result = _by_places(a, b, "-"), a - b
    elif kind == "boxes":
        text = f"{name} has {c} boxes with {b} {items} each. How many {items} are there?"
        steps, result = _multiplied(b, c), b * c
    else:
        text = f"{name} has {a} {items}, buys {b} more and loses {c}. How many {items} are left?"
        steps = [*_by_places(a, b, "+"), f"{a + b} - {c} = {a + b - c}"]
        result = a + b - c
    lines = "\n".join(steps)
    return [
        Exchange(
            text,
            f"{lines}\n\n{name} has **{result}** {items}."
            if kind == "gets"
            else f"{lines}\n\nThe answer is **{result}** {items}.",
            lines,
        )
    ]


def _series(rng: Random) -> list[Exchange]:
    numbers = [rng.randint(1, 20) for _ in range(rng.randint(3, 12))]
    total, lines = numbers[0], []
    for number in numbers[1:]:
        lines.append(f"{total} + {number} = {total + number}")
        total += number
    form = rng.choice(
        ["Add these numbers step by step: {t}", "What is the sum of {t}?", "Sum up {t}."]
    )
    steps = "\n".join(lines)
    return [
        Exchange(
            form.format(t=", ".join(map(str, numbers))),
            f"{steps}\n\nThe sum is **{total}**.",
            steps,
        )
    ]


def math(rng: Random) -> list[Exchange]:
    """Draws a calculation, a word problem or a series, with its steps."""
    return rng.choice([_sum, _sum, _story, _story, _series])(rng)
