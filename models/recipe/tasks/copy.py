"""Repeating and rewriting given text."""

from random import Random

from localmtp.models.recipe.exchange import Exchange
from localmtp.models.recipe.lexicon import (
    ADJECTIVES,
    ANIMALS,
    COLOURS,
    NAMES,
    OBJECTS,
    PLACES,
    SENTENCES,
    WORDS,
    with_articles,
)

SYLLABLES = [
    onset + vowel + coda
    for onset in ("b", "d", "f", "gr", "h", "k", "l", "m", "n", "p", "s", "st", "t", "v", "w")
    for vowel in "aeiou"
    for coda in ("", "", "n", "r", "l", "s")
]


def sentence(rng: Random) -> str:
    """Draws a short sentence without capital first letter (except for names) and full stop."""
    made = rng.choice(SENTENCES).format(
        a=rng.choice(ADJECTIVES),
        n=rng.choice(ANIMALS),
        p=rng.choice(PLACES),
        o=rng.choice(OBJECTS),
        c=rng.choice(COLOURS),
        N=rng.choice(NAMES),
    )
    return with_articles(made)


def _invented(rng: Random) -> str:
    """Draws an invented word, which can only be copied, not predicted."""
    syllables = rng.choices(SYLLABLES, k=rng.randint(1, 4))
    return "".join(syllables)


def _text(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.3:
        return " ".join(rng.choices(WORDS, k=rng.randint(2, 12)))
    if kind < 0.45:
        return " ".join(_invented(rng) for _ in range(rng.randint(1, 8)))
    if kind < 0.55:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=rng.randint(3, 9)))
    made = [sentence(rng) for _ in range(rng.choice([1, 1, 1, 2, 3, 8]))]
    return " ".join(s[0].upper() + s[1:] + "." for s in made)


def _repeat(rng: Random) -> list[Exchange]:
    text = _text(rng)
    form = rng.choice(
        [
            "Repeat: {t}",
            "Repeat after me: {t}",
            "Say: {t}",
            "Copy this text: {t}",
            "Write exactly this: {t}",
            "Repeat this sentence: {t}",
            "repeat {t}",
        ]
    )
    first = Exchange(form.format(t=text), text, "I repeat the text exactly.")
    if rng.random() < 0.25:
        again = rng.choice(["again", "Again, please.", "Once more."])
        return [first, Exchange(again, text, "I repeat the same text once more.")]
    return [first]


def _times(rng: Random) -> list[Exchange]:
    text = sentence(rng) if rng.random() < 0.5 else rng.choice(WORDS)
    times = rng.choice([2, 3, 3, 4, 5, 10])
    form = rng.choice(["Repeat {n} times: {t}", "Write this {n} times: {t}", "Say {n} times: {t}"])
    return [
        Exchange(
            form.format(n=times, t=text),
            "\n".join([text] * times),
            f"I write the text {times} times, one per line.",
        )
    ]


def _case(rng: Random) -> list[Exchange]:
    text = (
        sentence(rng) if rng.random() < 0.5 else " ".join(rng.choices(WORDS, k=rng.randint(1, 7)))
    )
    if rng.random() < 0.7:
        form = rng.choice(
            ["Write in capital letters: {t}", "Uppercase: {t}", "Turn this into upper case: {t}"]
        )
        return [Exchange(form.format(t=text), text.upper(), "I write every letter as a capital.")]
    form = rng.choice(["Write in small letters: {t}", "Lowercase: {t}"])
    return [Exchange(form.format(t=text.upper()), text.lower(), "I write every letter small.")]


def _replace(rng: Random) -> list[Exchange]:
    old, new = rng.sample(ANIMALS, 2)
    parts = [
        rng.choice(SENTENCES[:3]).format(
            a=rng.choice(ADJECTIVES), n=old, p=rng.choice(PLACES), N=rng.choice(NAMES)
        )
        for _ in range(rng.randint(1, 3))
    ]
    text = " ".join(p[0].upper() + p[1:] + "." for p in parts)
    form = rng.choice(
        [
            "Replace {o} with {n}: {t}",
            "Change the word {o} to {n}: {t}",
            'Replace the word "{o}" by "{n}" in this text: {t}',
        ]
    )
    return [
        Exchange(
            form.format(o=old, n=new, t=text),
            text.replace(old, new),
            f"I write the text with {new} instead of {old}.",
        )
    ]


def _lists(rng: Random) -> list[Exchange]:
    words = rng.sample(WORDS, rng.choice([3, 4, 5, 6, 8, 12]))
    text = ", ".join(words)
    kind = rng.choice(["reverse", "sort", "bullets", "bullets", "number"])
    if kind == "reverse":
        form, out = (
            rng.choice(["Reverse this list: {t}", "Write this list backwards: {t}"]),
            words[::-1],
        )
        return [Exchange(form.format(t=text), ", ".join(out), "I write the list from the end.")]
    if kind == "sort":
        form = rng.choice(
            ["Sort this list: {t}", "Sort alphabetically: {t}", "Put these words in order: {t}"]
        )
        return [
            Exchange(form.format(t=text), ", ".join(sorted(words)), "I sort by the first letter.")
        ]
    if kind == "bullets":
        form = rng.choice(["Make a bullet list: {t}", "Turn this into a Markdown list: {t}"])
        return [
            Exchange(
                form.format(t=text), "\n".join(f"- {w}" for w in words), "One bullet for each word."
            )
        ]
    form = rng.choice(["Number these items: {t}", "Make a numbered list: {t}"])
    return [
        Exchange(
            form.format(t=text),
            "\n".join(f"{i}. {w}" for i, w in enumerate(words, 1)),
            "One number for each word.",
        )
    ]


def copy(rng: Random) -> list[Exchange]:
    """Draws a text with a task: repeat, change case, replace, reverse, sort or list."""
    return rng.choice([_repeat, _repeat, _repeat, _times, _case, _replace, _lists, _lists])(rng)
