"""Stories generated from templates: open-ended text of several paragraphs."""

from random import Random

from localmtp.models.recipe.exchange import Exchange
from localmtp.models.recipe.lexicon import (
    ADJECTIVES,
    ANIMALS,
    COLOURS,
    NAMES,
    OBJECTS,
    PLACES,
    with_articles,
)

OPENINGS = (
    "Once upon a time there was a {a} {n} called {N} who lived near the {p}.",
    "In a {a} {p} there lived a {n} named {N}.",
    "Long ago, a {a} {n} by the name of {N} lived in a {p}.",
    "{N} was a {a} {n} and had never left the {p}.",
)
WANTS = (
    "More than anything, {N} wished to find the {c} {o}.",
    "Every evening {N} dreamed of a {c} {o}.",
    "One morning {N} found a {a2} {o} at the door.",
    "But {N} had lost the {c} {o} and could not sleep.",
    "Nobody knew that {N} had a secret: a {c} {o}.",
)
JOURNEYS = (
    "So {N} walked to the {q}, where the wind was {a2}.",
    "One {d} day {N} set out for the {q}.",
    "The road to the {q} was long, and the night was {d}.",
    "{N} packed some bread and went to the {q}.",
    "Behind the {q} there was a {a2} light.",
)
MEETINGS = (
    "There {N} met a {a3} {m} called {M}.",
    "On the way a {a3} {m} called {M} came along.",
    "Suddenly a {a3} {m} stood there. It was {M}.",
)
TALKS = (
    '"Where are you going?" asked {M}. "I am looking for the {o}," said {N}.',
    '"Can you help me?" asked {N}. "Of course," said {M}.',
    '"I have seen your {o}," said {M}. "It is in the {r}."',
    '"Do not be afraid," said {M}. "I know the way to the {r}."',
    '"Why are you so sad?" asked {M}. "Because of the {o}," said {N}.',
)
TROUBLES = (
    "But the {r} was dark, and the rain began to fall.",
    "Then a storm came, and they had to hide in the {r}.",
    "At the {r} they heard a {a2} voice.",
    "The door of the {r} was closed, and nobody answered.",
    "They crossed the {r} slowly, step by step.",
)
DEEDS = (
    "{M} held the {o}, and {N} opened the door.",
    "{N} was {a2} but did not give up.",
    "Together they looked behind every stone.",
    "{N} sang a song, and the {r} became bright.",
    "{M} told a joke, and both of them laughed.",
    "They waited until the moon was high.",
)
ENDINGS = (
    "In the end they found the {c} {o}, and {N} was happy.",
    "When the sun rose, {N} and {M} were friends.",
    "They went home together and shared the bread.",
    "From that day on {N} was never lonely again.",
    "And the {o} still hangs in the {p} today.",
)


def _story(rng: Random, hero: str, animal: str, length: int) -> str:
    words = {
        "N": hero,
        "n": animal,
        "M": rng.choice([n for n in NAMES if n != hero]),
        "m": rng.choice(ANIMALS),
        "a": rng.choice(ADJECTIVES),
        "a3": rng.choice(ADJECTIVES),
        "d": rng.choice(["cold", "warm", "dark", "bright", "quiet"]),
        "c": rng.choice(COLOURS),
        "o": rng.choice(OBJECTS),
        "p": rng.choice(PLACES),
    }

    def compose(*grammars: tuple[str, ...]) -> str:
        drawn = [
            rng.choice(grammar).format(
                a2=rng.choice(ADJECTIVES), q=rng.choice(PLACES), r=rng.choice(PLACES), **words
            )
            for grammar in grammars
        ]
        return " ".join(drawn)

    middles = [
        (JOURNEYS, TROUBLES, DEEDS),
        (TALKS, DEEDS),
        (TROUBLES, TALKS, DEEDS),
        (JOURNEYS, TALKS),
    ]
    paragraphs = [compose(OPENINGS, WANTS), compose(JOURNEYS, MEETINGS, TALKS)]
    paragraphs += [compose(*rng.choice(middles)) for _ in range(length)]
    paragraphs.append(" ".join(compose((ending,)) for ending in rng.sample(ENDINGS, 2)))
    return with_articles("\n\n".join(paragraphs))


def story(rng: Random) -> list[Exchange]:
    """Draws a request for a story, and a story of three to nine paragraphs."""
    hero, animal = rng.choice(NAMES), rng.choice(ANIMALS)
    question, length = rng.choice(
        [
            ("Tell me a story.", 2),
            ("Write a short story.", 0),
            ("tell me a story", 2),
            ("Tell me a story about {a} {n}.", 2),
            ("Write a story about {a} {n} called {N}.", 2),
            ("Write a short story about {a} {n}.", 0),
            ("Write a long story about {a} {n}.", 5),
            ("Tell me a long story.", 6),
            ("Tell me a story about {N} the {n}.", 3),
            ("Write a long story about {N} the {n}.", 6),
        ]
    )
    text = _story(rng, hero, animal, length)
    if rng.random() < 0.3:
        text = f"# {hero} the {animal}\n\n{text}"
    thought = f"A story about {hero} the {animal}, with a friend and a happy end."
    first = Exchange(with_articles(question.format(a="a", n=animal, N=hero)), text, thought)
    if rng.random() < 0.15:
        again = rng.choice(["Another one, please.", "Tell me another story.", "again"])
        hero, animal = rng.choice(NAMES), rng.choice(ANIMALS)
        return [first, Exchange(again, _story(rng, hero, animal, 1), "One more story.")]
    return [first]
