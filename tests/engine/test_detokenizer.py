"""Detokenization: whole characters, separate thoughts, no control tokens."""

import pytest

from localmtp.engine.events import Channel, Origin
from localmtp.engine.markup.kinds import GEMMA4
from localmtp.engine.pair import Pair
from localmtp.engine.text.detokenizer import Detokenizer


def read(pair: Pair, text: str) -> list[tuple[str, Channel]]:
    reader = Detokenizer(pair.target.vocab)
    ids = pair.target.vocab.tokenize(text, special=True)
    return [(p.text, p.channel) for p in (reader.read(i, Origin.TARGET) for i in ids)]


@pytest.mark.parametrize(
    "text", ["naïve café", "日本語のテキスト", "🙂🚀 ok", "a\n\n\n  b\tc", "e\u0301"]
)
def test_characters_split_over_tokens_are_joined(pair: Pair, text: str) -> None:
    pieces = read(pair, text)
    assert "".join(t for t, _ in pieces) == text
    assert all("\ufffd" not in t for t, _ in pieces)


def test_thoughts_are_separated_from_the_answer(pair: Pair) -> None:
    pieces = read(pair, "<|channel>thought\nI add.\n<channel|>The sum is 5.<turn|>")
    thought = "".join(t for t, c in pieces if c is Channel.THOUGHT)
    answer = "".join(t for t, c in pieces if c is Channel.ANSWER)
    assert thought == "I add.\n"
    assert answer == "The sum is 5."


def test_a_partial_thought_is_continued(pair: Pair) -> None:
    whole = "<|channel>thought\nI add.\n<channel|>It is 5."
    assert GEMMA4.as_written("I add.\n", "It is 5.") == whole
    assert whole.startswith(GEMMA4.as_written("I add.\n", ""))
    assert GEMMA4.as_written("", "It is 5.") == "It is 5."
    reader = Detokenizer(pair.target.vocab, Channel.THOUGHT)
    rest = pair.target.vocab.tokenize(" Yes.\n<channel|>It is 5.", special=True)
    pieces = [reader.read(i, Origin.TARGET) for i in rest]
    assert "".join(p.text for p in pieces if p.channel is Channel.THOUGHT) == " Yes.\n"
    assert "".join(p.text for p in pieces if p.channel is Channel.ANSWER) == "It is 5."


def test_no_marker_is_ever_text(pair: Pair) -> None:
    vocab = pair.target.vocab
    markers = [
        i for i in range(vocab.size) if b"|>" in (p := vocab.piece(i, special=True)) or b"<|" in p
    ]
    assert len(markers) > 15
    reader = Detokenizer(vocab)
    assert not any(reader.read(i, Origin.TARGET).text for i in markers)
