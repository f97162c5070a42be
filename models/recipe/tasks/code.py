"""Short Python functions, classes, loops and tests."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from textwrap import indent

from localmtp.models.recipe.exchange import Exchange
from localmtp.models.recipe.lexicon import ITEMS, WORDS, words


@dataclass(frozen=True, slots=True)
class FunctionExample:
    """A Python function of functions.toml."""

    what: str
    """Description that completes "a function that …"."""
    arguments: str
    body: str
    test: str
    """Asserted expression of its test; may be empty."""


FUNCTIONS = {
    name: FunctionExample(**fields)
    for name, fields in tomllib.loads(
        files(__package__).joinpath("functions.toml").read_text("utf-8")
    ).items()
}
FIELDS = {
    "name": "str",
    "age": "int",
    "price": "float",
    "city": "str",
    "size": "int",
    "colour": "str",
    "weight": "float",
    "count": "int",
    "title": "str",
    "active": "bool",
    "email": "str",
    "year": "int",
    "author": "str",
    "width": "float",
    "height": "float",
}
CLASSES = words("Person Book Car House Order City Product User Animal Item Ticket Box Player Song")


def _function(name: str) -> str:
    function = FUNCTIONS[name]
    return f"def {name}({function.arguments}):\n" + indent(function.body, "    ")


def _fenced(text: str) -> str:
    return f"```python\n{text}\n```"


def _single(rng: Random) -> list[Exchange]:
    name = rng.choice(list(FUNCTIONS))
    what, test = FUNCTIONS[name].what, FUNCTIONS[name].test
    form = rng.choice(
        [
            "Write a Python function that {w}.",
            "write a function that {w}",
            "Python function `{n}` that {w}, please.",
            "Code: a function that {w}.",
            "Can you write a Python function that {w}?",
            "Write `{n}`, which {w}.",
        ]
    )
    answer = _fenced(_function(name)) + f"\n\nThe function `{name}` {what}."
    first = Exchange(
        form.format(w=what, n=name), answer, f"I need a function `{name}` that {what}."
    )
    if test and rng.random() < 0.4:
        question = rng.choice(["Write a test for it.", "Now a test.", "Add a test, please."])
        code = f"def test_{name}():\n    assert {test}"
        return [
            first,
            Exchange(
                question, _fenced(code) + "\n\nRun it with `pytest`.", f"The test calls `{name}`."
            ),
        ]
    return [first]


def _module(rng: Random) -> list[Exchange]:
    names = rng.sample(list(FUNCTIONS), rng.choice([2, 3, 4, 6]))
    listed = ", ".join(f"`{n}`" for n in names)
    form = rng.choice(
        [
            "Write a Python module with the functions {l}.",
            "Write these Python functions: {l}.",
            "Python code for {l}, please.",
        ]
    )
    code = "\n\n\n".join(_function(name) for name in names)
    notes = "\n".join(f"- `{name}` {FUNCTIONS[name].what}" for name in names)
    return [
        Exchange(
            form.format(l=listed),
            f"{_fenced(code)}\n\n{notes}",
            f"I write {len(names)} functions: {listed}.",
        )
    ]


def _dataclass(rng: Random) -> list[Exchange]:
    name, fields = rng.choice(CLASSES), rng.sample(list(FIELDS), rng.randint(1, 6))
    form = rng.choice(
        [
            "Write a dataclass {n} with the fields {f}.",
            "Python dataclass {n}: {f}",
            "Make a dataclass called {n} with {f}.",
        ]
    )
    lines = "\n".join(f"    {field}: {FIELDS[field]}" for field in fields)
    code = f"from dataclasses import dataclass\n\n\n@dataclass\nclass {name}:\n{lines}"
    return [
        Exchange(
            form.format(n=name, f=", ".join(fields)),
            f"{_fenced(code)}\n\n`{name}` has {len(fields)} field{'s' * (len(fields) > 1)}.",
            f"The class is {name}, the fields are {', '.join(fields)}.",
        )
    ]


def _class(rng: Random) -> list[Exchange]:
    name, fields = rng.choice(CLASSES), rng.sample(list(FIELDS), rng.randint(1, 4))
    form = rng.choice(["Write a Python class {n} with {f}.", "Write a class {n} that stores {f}."])
    sets = "\n".join(f"        self.{field} = {field}" for field in fields)
    methods = "".join(f"\n\n    def get_{f}(self):\n        return self.{f}" for f in fields)
    code = f"class {name}:\n    def __init__(self, {', '.join(fields)}):\n{sets}{methods}"
    return [
        Exchange(
            form.format(n=name, f=", ".join(fields)),
            f"{_fenced(code)}\n\n`{name}` stores {', '.join(fields)}.",
            f"The class is {name}, it stores {', '.join(fields)}.",
        )
    ]


def _loop(rng: Random) -> list[Exchange]:
    start, end = rng.randint(0, 5), rng.randint(6, 100)
    words = rng.sample(ITEMS, rng.randint(2, 6))
    quoted = ", ".join(f'"{word}"' for word in words)
    variable = rng.choice(WORDS)
    question, code, note = rng.choice(
        [
            (
                f"Write a loop that prints the numbers from {start} to {end}.",
                f"for i in range({start}, {end + 1}):\n    print(i)",
                f"It prints {start} to {end}.",
            ),
            (
                f"Write a loop over {', '.join(words)} that prints each word.",
                f"for word in [{quoted}]:\n    print(word)",
                "It prints one word per line.",
            ),
            (
                f"Make a Python list of {', '.join(words)}.",
                f"items = [{quoted}]",
                f"The list has {len(words)} items.",
            ),
            (
                f"Set the variable {variable} to {end} and print it.",
                f"{variable} = {end}\nprint({variable})",
                f"It prints {end}.",
            ),
            (
                "Write a list comprehension with the numbers "
                f"below {end} that are divisible by {start + 2}.",
                f"numbers = [n for n in range({end}) if n % {start + 2} == 0]",
                f"It keeps the numbers that {start + 2} divides.",
            ),
        ]
    )
    return [Exchange(question, f"{_fenced(code)}\n\n{note}", "A few lines of Python are enough.")]


def code(rng: Random) -> list[Exchange]:
    """Draws a request for Python code, from one line to a module of six functions."""
    return rng.choice([_single, _single, _single, _module, _module, _dataclass, _class, _loop])(rng)
