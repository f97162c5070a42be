"""Word lists of the tasks."""

import re


def words(text: str) -> list[str]:
    """Splits a text at white space."""
    return text.split()


NAMES = words(
    "Anna Ben Clara David Emma Felix Grace Hugo Iris Jack Kate Leo Maria Nora Oscar Paula Quinn "
    "Rosa Sam Tina Uma Victor Wendy Yara Zoe Adam Bella Carlos Diana Erik Fiona George Hannah Ivan "
    "Julia Karl Lena Martin Nina Otto Peter Rita Simon Tom Vera Walter Amir Mei Ravi Yuki"
)
CITIES = words(
    "Paris London Berlin Rome Madrid Vienna Oslo Lisbon Dublin Prague Tokyo Cairo Athens Warsaw "
    "Boston Chicago Toronto Sydney Delhi Lima Quito Nairobi Seoul Helsinki"
)
JOBS = words(
    "teacher baker doctor painter farmer pilot nurse engineer writer gardener singer carpenter "
    "lawyer cook driver sailor tailor plumber"
)
ITEMS = words(
    "apple pear plum lemon cherry banana melon grape pencil book lamp chair table cup plate spoon "
    "shirt hat shoe ball box candle basket bottle key coin ring brush map clock"
)
ANIMALS = words(
    "cat dog fox owl bear wolf hare mouse horse goat sheep duck frog crow deer otter badger "
    "hedgehog squirrel turtle"
)
COLOURS = words("red blue green yellow white black brown grey purple orange pink silver golden")
ADJECTIVES = words(
    "small old quiet brave clever happy tired gentle strange bright dark cold warm tiny tall kind "
    "lonely curious patient proud shy slow quick young"
)
PLACES = words(
    "forest village river mountain garden harbour castle market bridge island meadow valley "
    "library kitchen tower station lake mill beach cave"
)
OBJECTS = words(
    "lantern key map letter boat drum coat violin compass mirror feather stone bell wagon kite "
    "book clock basket ladder umbrella"
)
NOUNS = words(
    "river sun moon star rain snow wind storm cloud light night day summer winter spring autumn "
    "bread milk honey salt sugar water fire earth glass iron wood paper silk music dance dream "
    "road gate wall door window roof floor field hill sea wave sand leaf tree root flower seed "
    "mind hand heart voice story song game word line page code file disk model token draft"
)
WORDS = sorted({*ITEMS, *ANIMALS, *COLOURS, *ADJECTIVES, *PLACES, *OBJECTS, *NOUNS})
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words(
    "January February March April May June July August September October November December"
)
SENTENCES = (
    "the {a} {n} sleeps near the {p}",
    "a {a} {n} walks to the {p}",
    "{N} saw the {a} {n} in the {p}",
    "{N} likes the {a} {p}",
    "the {p} is {a} today",
    "we found a {o} near the {p}",
    "{N} put the {o} on the {a} table",
    "my {n} is very {a}",
    "the {c} {o} belongs to {N}",
    "there is a {c} {n} behind the {p}",
)


def with_articles(text: str) -> str:
    """Replaces `a` before a vowel by `an`."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
