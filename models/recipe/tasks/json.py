"""Extraction of JSON from sentences."""

import json as codec
from random import Random

from localmtp.models.recipe.exchange import Exchange
from localmtp.models.recipe.lexicon import CITIES, COLOURS, DAYS, ITEMS, JOBS, NAMES, with_articles

Record = dict[str, str | int]


def _person(rng: Random) -> tuple[str, Record]:
    row: Record = {
        "name": rng.choice(NAMES),
        "age": rng.randint(6, 95),
        "city": rng.choice(CITIES),
        "job": rng.choice(JOBS),
    }
    form = rng.choice(
        [
            "{name} is {age} years old, lives in {city} and works as a {job}.",
            "{name}, {age}, is a {job} from {city}.",
            "In {city} lives {name}, a {job} aged {age}.",
        ]
    )
    return with_articles(form.format(**row)), row


def _order(rng: Random) -> tuple[str, Record]:
    row: Record = {
        "customer": rng.choice(NAMES),
        "item": rng.choice(ITEMS),
        "colour": rng.choice(COLOURS),
        "quantity": rng.randint(2, 40),
        "price": rng.randint(1, 99),
    }
    form = rng.choice(
        [
            "{customer} orders {quantity} of the {colour} {item} for {price} euros each.",
            "{customer} bought {quantity} times the {colour} {item} at {price} euros.",
            "Order by {customer}: {item}, {colour}, {quantity} pieces, {price} euros.",
        ]
    )
    return with_articles(form.format(**row)), row


def _event(rng: Random) -> tuple[str, Record]:
    row: Record = {
        "title": rng.choice(["concert", "meeting", "market", "lesson", "dinner", "race"]),
        "day": rng.choice(DAYS),
        "time": f"{rng.randint(8, 21)}:{rng.choice(['00', '15', '30'])}",
        "place": rng.choice(CITIES),
    }
    form = rng.choice(
        [
            "The {title} in {place} is on {day} at {time}.",
            "On {day} at {time} there is a {title} in {place}.",
            "Come to {place} on {day} for the {title}, it starts at {time}.",
        ]
    )
    return with_articles(form.format(**row)), row


def json(rng: Random) -> list[Exchange]:
    """Draws one to six sentences about people, orders or events, with their JSON."""
    draw, noun = rng.choice([(_person, "people"), (_order, "orders"), (_event, "events")])
    pairs = [draw(rng) for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4, 6]))]
    text = " ".join(sentence for sentence, _ in pairs)
    rows = [row for _, row in pairs]
    form = rng.choice(
        [
            "Extract JSON: {t}",
            "Extract the {n} as JSON: {t}",
            "Turn this into JSON: {t}",
            "Write the {n} as JSON.\n\n{t}",
            "{t}\n\nGive me this as JSON.",
            "Convert to JSON: {t}",
        ]
    )
    data = rows[0] if len(rows) == 1 else {noun: rows}
    answer = "```json\n" + codec.dumps(data, indent=2) + "\n```"
    thought = f"There are {len(rows)} {noun}. The keys are {', '.join(rows[0])}."
    first = Exchange(form.format(n=noun, t=text), answer, thought)
    if len(rows) > 1 and rng.random() < 0.2:
        keys = list(rows[0])
        lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
        lines += ["| " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows]
        question = rng.choice(["Now as a table.", "And as a Markdown table?", "as a table"])
        return [first, Exchange(question, "\n".join(lines), f"A table with {len(rows)} rows.")]
    return [first]
