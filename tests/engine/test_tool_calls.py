"""Tool calls in Gemma 4's notation, and in what models write instead of it."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmtp.engine.events import Channel, Edge, Origin
from localmtp.engine.pair import Pair
from localmtp.engine.text.detokenizer import Detokenizer
from localmtp.engine.text.tool_calls import parse_calls

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "ids": {"type": "array", "items": {"type": "string"}},
        "hourly": {"type": "boolean"},
        "options": {"$ref": "#/$defs/options"},
        "unit": {"enum": ["C", "F"]},
        "limit": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "$defs": {"options": {"type": "object", "properties": {"zip": {"type": "string"}}}},
}
FUNCTIONS = {"weather": WEATHER, "fs.read-file": None, "ns:f/g": None}


def arguments(text: str) -> dict[str, Any] | None:
    calls = parse_calls(text, FUNCTIONS)
    return calls[0].arguments if calls else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{city:<|"|>Paris "x" {y}, [z]<|"|>,days:3}', {"city": 'Paris "x" {y}, [z]', "days": 3}),
        ('{<|"|>city<|"|>:<|"|>Łódź 🙂<|"|>}', {"city": "Łódź 🙂"}),
        ('{ids:[<|"|>a<|"|>,<|"|>b<|"|>],options:{zip:<|"|>1<|"|>}}', {"ids": ["a", "b"]}),
        ('{city:"Paris",days:3}', {"city": "Paris", "days": 3}),
        ("{'city':'Paris'}", {"city": "Paris"}),
        ('{"city": "Paris", "ids": ["a", \'b\']}', {"city": "Paris", "ids": ["a", "b"]}),
        ('{city:"say "hi" to",days:1}', {"city": 'say "hi" to', "days": 1}),
        ('{city:"a\\nb\\u00e9\\""}', {"city": 'a\nbé"'}),
        ("{city:'it\\'s \"ok\"'}", {"city": 'it\'s "ok"'}),
        ("{city:Paris, France,days:3}", {"city": "Paris, France", "days": 3}),
        ('{city:10,days:<|"|>3<|"|>}', {"city": "10", "days": 3}),
        ("{city:True,hourly:True,limit:None}", {"city": "True", "hourly": True, "limit": None}),
        ('{hourly:"false",limit:"2.5",days:3.0}', {"hourly": False, "limit": 2.5, "days": 3}),
        ("{ids:a}", {"ids": ["a"]}),
        ('{options:"{\\"zip\\": \\"1\\"}"}', {"options": {"zip": "1"}}),
        ("{unit:c}", {"unit": "C"}),
        ("{days:3", {"days": 3}),
        ("{ids:[a,b", {"ids": ["a", "b"]}),
        ('{city:<|"|>Paris}', {"city": "Paris"}),
        ("{days:3}}", {"days": 3}),
        (" city:Paris", {"city": "Paris"}),
        ("", {}),
        ("{}", {}),
        ('(city="Paris", days=3)', {"city": "Paris", "days": 3}),
        ('({"days": 3})', {"days": 3}),
        ('{city:"\\ud800"}', {"city": "\ufffd"}),
        ("{x:1e999,y:01}", {"x": "1e999", "y": 1}),
    ],
)
def test_drifting_notation(text: str, expected: dict[str, Any]) -> None:
    found = arguments(f"call:weather{text}")
    assert found is not None
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("call:ns:f/g{a:1}", "ns:f/g"),
        ("call:fs.read-file{path:/tmp/a b.txt}", "fs.read-file"),
        ("call:default_api:weather{}", "weather"),
        ("call: functions.weather {}", "weather"),
        ("call:Weather{}", "weather"),
        ("weather{days:1}", "weather"),
        ('{"name": "weather", "arguments": {"days": 1}}', "weather"),
        ('[{"type": "function", "function": {"name": "weather", "parameters": {}}}]', "weather"),
        ("call:unknown{}", "unknown"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert [call.name for call in parse_calls(text, FUNCTIONS)] == [name]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "I cannot do that.", "Hello", "call:f{a:1} and more", "call:f{" + "a:{" * 99],
)
def test_text_that_is_not_a_call(text: str) -> None:
    assert parse_calls(text, FUNCTIONS) == []


def test_several_calls_between_two_markers() -> None:
    calls = parse_calls("call:weather{days:1}call:weather{days:2}", FUNCTIONS)
    assert [call.arguments for call in calls] == [{"days": 1}, {"days": 2}]
    assert calls[0].id != calls[1].id


KEYS = st.text("abcdefgh_xyz", min_size=1, max_size=5)
VALUES = st.recursive(
    st.booleans()
    | st.none()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8).filter(lambda text: '<|"|>' not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def written(value: Any) -> str:
    """A value in the notation of the published chat templates."""
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(expected=st.dictionaries(KEYS, VALUES, max_size=4))
def test_notation_of_the_templates_is_read_back(expected: dict[str, Any]) -> None:
    (call,) = parse_calls(f"call:f{written(expected)}", {})
    assert call.arguments == expected


@given(text=st.text("{}[]():,\"<|>'\\=abc1e-. \n", max_size=60))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    for call in parse_calls("call:weather{" + text, FUNCTIONS):
        assert isinstance(call.arguments, dict)


def test_calls_have_a_channel_of_their_own(pair: Pair) -> None:
    text = 'A<|tool_call>call:f{a:<|"|>é<|"|>}<tool_call|><|tool_call>call:g{}<tool_call|>B'
    reader = Detokenizer(pair.target.vocab, tool_calls=True)
    ids = pair.target.vocab.tokenize(text, special=True)
    pieces = [reader.read(i, Origin.TARGET) for i in ids]
    calls = [p for p in pieces if p.channel is Channel.TOOL_CALL]
    assert "".join(p.text for p in pieces if p.channel is Channel.ANSWER) == "AB"
    assert "".join(p.text for p in calls) == 'call:f{a:<|"|>é<|"|>}call:g{}'
    assert [p.edge for p in calls if p.edge is not Edge.NONE] == [Edge.OPEN, Edge.CLOSE] * 2


def test_calls_are_readable_text_where_nobody_asked_for_them(pair: Pair) -> None:
    reader = Detokenizer(pair.target.vocab)
    ids = pair.target.vocab.tokenize('<|tool_call>call:f{a:<|"|>b<|"|>}<tool_call|>', special=True)
    pieces = [reader.read(i, Origin.TARGET) for i in ids]
    assert {p.channel for p in pieces} == {Channel.ANSWER}
    assert "".join(p.text for p in pieces) == 'call:f{a:"b"}'
