"""Regular expressions of JSON schemas, as grammars."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmtp.engine.llama import Grammar
from localmtp.engine.llama.patterns import pattern_to_gbnf
from localmtp.engine.pair import Pair


def matches(pair: Pair, pattern: str, text: str) -> bool:
    """Whether the grammar of a pattern accepts exactly this text."""
    vocab = pair.target.vocab
    grammar = Grammar.parse(pair.target.model, f"root ::= {pattern_to_gbnf(pattern)}")
    for token in vocab.tokenize(text, special=False):
        if not grammar.allowed(np.array([token], np.int32)).size:
            return False
        grammar.accept(token)
    ids = np.arange(vocab.size, dtype=np.int32)
    return any(vocab.ends_generation(int(token)) for token in grammar.allowed(ids))


@pytest.mark.parametrize(
    ("pattern", "accepted", "rejected"),
    [
        ("^a]$", ["a]"], ["a"]),
        ("^x:}$", ["x:}"], ["x:"]),
        ("^(ab|cd)+e?$", ["ab", "cdabe"], ["e", "abee"]),
        (r"^\d{3}-\w+$", ["123-a_1"], ["12-a", "123-"]),
        ("^a{2}b{0,2}c{1,}$", ["aac", "aabbcc"], ["ac", "aabbbc"]),
        ("b", ["abc", "b"], ["ac"]),
        ("^b", ["bc"], ["ab"]),
        ('^[^a-c"]{2,3}$', ["xyz", "xy"], ["ab", "x"]),
        (r"^[\d.-]+$", ["1.2-3"], ["a"]),
        (r"^\S \s$", ["a  "], ["ab"]),
        ('^a"b\\\\$', ['a\\"b\\\\'], ['a"b']),
        (r"^é\u00e9\x41\.\/$", ["ééA./"], ["ééAb/"]),
        ("^(?:a|b)*?$", ["", "abba"], ["c"]),
        ("^{a}$", ["{a}"], ["a"]),
    ],
)
def test_patterns(pair: Pair, pattern: str, accepted: list[str], rejected: list[str]) -> None:
    assert all(matches(pair, pattern, text) for text in accepted)
    assert not any(matches(pair, pattern, text) for text in rejected)


@pytest.mark.parametrize(
    "pattern",
    [
        *("((", "^(a|b", "[", "[]", "*a", "a{3,1}", r"\1", r"\b", "(?=a)", "(?i)a", "a^b"),
        *(r"\ud800", "a?" * 100, "(a|b)?" * 40, "(a*)*", "(a?b?)+", "a{100000}", "(" * 99),
        "(a{1,999}){1,999}",
    ],
)
def test_rejected_patterns(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        pattern_to_gbnf(pattern)


@given(pattern=st.text('^$ab(|)[]*+?.{}1,\\\\d"-', max_size=30))
def test_any_text_is_converted_or_rejected(pair: Pair, pattern: str) -> None:
    try:
        text = pattern_to_gbnf(pattern)
    except ValueError:
        return
    Grammar.parse(pair.target.model, f"root ::= {text}")
