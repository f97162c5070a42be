"""Questions about the facts in facts.toml."""

import tomllib
from functools import cache
from importlib.resources import files
from random import Random

from localmtp.models.recipe.exchange import Exchange
from localmtp.models.recipe.lexicon import DAYS, MONTHS, words

PLANETS = words("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune")
DIAMETERS = dict(
    zip(PLANETS, [4879, 12104, 12756, 6792, 142984, 120536, 51118, 49528], strict=True)
)


@cache
def _knowledge() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("facts.toml").read_text("utf-8"))


def _capital(rng: Random) -> list[Exchange]:
    capitals = _knowledge()["capitals"]
    country = rng.choice(list(capitals))
    city = capitals[country]
    if rng.random() < 0.2:
        form = rng.choice(
            ["{c} is the capital of which country?", "Of which country is {c} the capital?"]
        )
        return [
            Exchange(
                form.format(c=city),
                f"{city} is the capital of **{country}**.",
                f"The country with the capital {city} is {country}.",
            )
        ]
    form = rng.choice(
        [
            "What is the capital of {c}?",
            "capital of {c}",
            "Capital of {c}?",
            "Which city is the capital of {c}?",
            "Tell me the capital of {c}.",
        ]
    )
    first = Exchange(
        form.format(c=country),
        f"The capital of {country} is **{city}**.",
        f"The user asks for the capital of {country}. It is {city}.",
    )
    if rng.random() < 0.3:
        other = rng.choice(list(capitals))
        question = rng.choice(["And {c}?", "And of {c}?", "What about {c}?"]).format(c=other)
        return [
            first,
            Exchange(
                question,
                f"The capital of {other} is **{capitals[other]}**.",
                f"Now the capital of {other}. It is {capitals[other]}.",
            ),
        ]
    return [first]


def _capitals_table(rng: Random) -> list[Exchange]:
    capitals = _knowledge()["capitals"]
    countries = rng.sample(list(capitals), rng.randint(3, 12))
    form = rng.choice(
        ["Make a table of the capitals of {c}.", "Table with the capitals of {c}, please."]
    )
    rows = "\n".join(f"| {country} | {capitals[country]} |" for country in countries)
    return [
        Exchange(
            form.format(c=", ".join(countries)),
            "| Country | Capital |\n|---|---|\n" + rows,
            f"A table with {len(countries)} rows.",
        )
    ]


def _term(rng: Random) -> list[Exchange]:
    terms = _knowledge()["terms"]
    term = rng.choice(list(terms))
    form = rng.choice(
        [
            "What is {t}?",
            "what is {t}",
            "Explain {t}.",
            "What does {t} mean?",
            "Can you explain {t}?",
            "Tell me about {t}.",
        ]
    )
    return [Exchange(form.format(t=term), terms[term], f"The user asks about {term}.")]


def _several_terms(rng: Random) -> list[Exchange]:
    terms = _knowledge()["terms"]
    chosen = rng.sample(list(terms), rng.randint(3, 8))
    form = rng.choice(["Explain these words: {t}.", "Make a glossary of {t}."])
    parts = [f"## {term}\n\n{terms[term]}" for term in chosen]
    return [
        Exchange(
            form.format(t=", ".join(chosen)),
            "\n\n".join(parts),
            f"I explain {len(chosen)} words, each under its heading.",
        )
    ]


def _animal(rng: Random) -> list[Exchange]:
    animals = _knowledge()["animals"]
    animal = rng.choice(list(animals))
    article = "an" if animal[0] in "aeo" else "a"
    form = rng.choice(
        [
            "What is {a} {n}?",
            "Tell me about the {n}.",
            "Describe {a} {n}.",
            "What do you know about the {n}?",
        ]
    )
    return [
        Exchange(form.format(a=article, n=animal), animals[animal], f"The animal is the {animal}.")
    ]


def _question(rng: Random) -> list[Exchange]:
    questions = _knowledge()["questions"]
    question = rng.choice(list(questions))
    asked = question if rng.random() < 0.7 else question.lower().rstrip("?")
    return [Exchange(asked, questions[question], "This is a question about a fact that I know.")]


def _neighbour(rng: Random) -> list[Exchange]:
    names, noun = rng.choice([(DAYS, "day"), (MONTHS, "month")])
    index, step, word = rng.randrange(len(names)), *rng.choice([(1, "after"), (-1, "before")])
    form = rng.choice(["Which {w} comes {s} {n}?", "What {w} is {s} {n}?"])
    answer = names[(index + step) % len(names)]
    return [
        Exchange(
            form.format(w=noun, s=word, n=names[index]),
            f"The {noun} {word} {names[index]} is **{answer}**.",
            f"I go through the {noun}s in order.",
        )
    ]


def _list(rng: Random) -> list[Exchange]:
    noun, names = rng.choice([("days of the week", DAYS), ("months", MONTHS), ("planets", PLANETS)])
    form = rng.choice(
        ["List the {n}.", "Name the {n}.", "What are the {n}?", "Which {n} are there?"]
    )
    marks = rng.choice([("", "{i}. {n}"), (" As a bullet list.", "- {n}")])
    lines = [marks[1].format(i=i, n=name) for i, name in enumerate(names, 1)]
    return [
        Exchange(form.format(n=noun) + marks[0], "\n".join(lines), f"I list the {noun} in order.")
    ]


def _planets(rng: Random) -> list[Exchange]:
    question = rng.choice(
        [
            "Make a table of the planets.",
            "Table of the planets with their size, please.",
            "How large are the planets?",
        ]
    )
    rows = "\n".join(f"| {i} | {p} | {DIAMETERS[p]} km |" for i, p in enumerate(PLANETS, 1))
    return [
        Exchange(
            question,
            "| | Planet | Diameter |\n|---|---|---|\n" + rows,
            "A table with eight planets.",
        )
    ]


def facts(rng: Random) -> list[Exchange]:
    """Draws a question about the facts, with its answer."""
    forms = [
        _capital,
        _capital,
        _capitals_table,
        _term,
        _term,
        _several_terms,
        _animal,
        _question,
        _question,
        _neighbour,
        _list,
        _planets,
    ]
    return rng.choices(forms, [3, 3, 1, 4, 4, 1.5, 2, 2, 3, 1, 1, 0.5])[0](rng)
