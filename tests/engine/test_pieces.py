"""Text from tokens: whole characters, thoughts apart, control tokens unseen."""

import pytest

from localmtp.engine.events import Channel, Origin
from localmtp.engine.pair import Pair
from localmtp.engine.pieces import PieceReader


def read(pair: Pair, text: str) -> list[tuple[str, Channel]]:
    reader = PieceReader(pair.target.vocab)
    ids = pair.target.vocab.tokenize(text, special=True)
    return [(p.text, p.channel) for p in (reader.read(i, Origin.TARGET) for i in ids)]


@pytest.mark.parametrize(
    "text", ["naïve café", "日本語のテキスト", "🙂🚀 ok", "a\n\n\n  b\tc", "e\u0301"]
)
def test_characters_split_over_tokens_come_whole(pair: Pair, text: str) -> None:
    pieces = read(pair, text)
    assert "".join(t for t, _ in pieces) == text
    assert all("\ufffd" not in t for t, _ in pieces)


def test_thoughts_are_told_from_the_answer(pair: Pair) -> None:
    pieces = read(pair, "<|channel>thought\nI add.\n<channel|>The sum is 5.<turn|>")
    thought = "".join(t for t, c in pieces if c is Channel.THOUGHT)
    answer = "".join(t for t, c in pieces if c is Channel.ANSWER)
    assert thought == "I add.\n"
    assert answer == "The sum is 5."
