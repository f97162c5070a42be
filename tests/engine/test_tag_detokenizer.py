"""Markers in text, in whatever tokens they are written."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from localmtp.engine.events import Channel, Edge, Origin, Piece
from localmtp.engine.markup.kinds import Notation, markup_of
from localmtp.engine.markup.tag_detokenizer import TagDetokenizer
from localmtp.engine.pair import Pair

QWEN = markup_of("<think> <tool_call>", lambda text: False)
TEXT = (
    "<think>\nIs 1 < 2? <tool>\n</think>\n\nYes: <b>1 < 2</b>, naïve 🙂.\n"
    '<tool_call>\n{"name": "f"}\n</tool_call>\n<tool_call>\n{"name": "g"}\n</tool_call>'
)


def read(pair: Pair, chunks: list[str], *, tool_calls: bool = True) -> list[Piece]:
    vocab = pair.target.vocab
    reader = TagDetokenizer(vocab, QWEN, tool_calls=tool_calls)
    ids = [token for chunk in chunks for token in vocab.tokenize(chunk, special=False)]
    pieces = [reader.read(token, Origin.TARGET) for token in ids]
    rest = reader.rest(cut=False)
    return [*pieces, *([rest] if rest else [])]


def text_of(pieces: list[Piece], channel: Channel) -> str:
    return "".join(piece.text for piece in pieces if piece.channel is channel)


@pytest.mark.parametrize("seed", range(20))
def test_channels_do_not_depend_on_the_tokens(pair: Pair, seed: int) -> None:
    random = Random(seed)
    cuts = sorted({0, len(TEXT), *random.choices(range(len(TEXT)), k=random.randint(0, 60))})
    pieces = read(pair, [TEXT[start:end] for start, end in pairwise(cuts)])
    assert text_of(pieces, Channel.THOUGHT) == "Is 1 < 2? <tool>\n"
    assert text_of(pieces, Channel.ANSWER) == "Yes: <b>1 < 2</b>, naïve 🙂.\n"
    assert text_of(pieces, Channel.TOOL_CALL) == '{"name": "f"}\n{"name": "g"}\n'
    assert [piece.edge for piece in pieces].count(Edge.OPEN) == 3
    assert all(piece.token_id >= 0 for piece in pieces[:-1])


def test_a_beginning_of_a_marker_is_text_at_the_end_and_dropped_where_it_was_cut(
    pair: Pair,
) -> None:
    vocab = pair.target.vocab
    for cut, expected in ((False, "so <tool_"), (True, "so ")):
        reader = TagDetokenizer(vocab, QWEN)
        text = ""
        for token in vocab.tokenize("so <tool_", special=False):
            text += reader.read(token, Origin.TARGET).text
        rest = reader.rest(cut=cut)
        assert text + (rest.text if rest else "") == expected


@pytest.mark.parametrize(
    ("template", "notation", "thought"),
    [
        ("<|channel> <|tool_call>", Notation.GEMMA, "<|channel>"),
        ("<tool_call> <function=", Notation.XML, "<think>"),
        ("<tool_call> <think>", Notation.JSON, "<think>"),
        ("[TOOL_CALLS] [INST]", Notation.JSON, ""),
        ("</think> <|User|>", Notation.NONE, "<think>"),
        ("<start_of_turn>", Notation.NONE, ""),
    ],
)
def test_templates_decide(template: str, notation: Notation, thought: str) -> None:
    markup = markup_of(template, lambda text: False)
    assert (markup.notation, markup.thought[0]) == (notation, thought)


@pytest.mark.parametrize("prompt", ["", "<think>\n"])
def test_continued_answers_are_as_the_model_wrote_them(prompt: str) -> None:
    written, inside = QWEN.continued(prompt, "I add.\n", "It is 5.")
    assert (written, inside) == ("<think>\nI add.\n</think>\n\nIt is 5.", False)
    written, inside = QWEN.continued(prompt, "I add.", "")
    assert (written, inside) == ("<think>\nI add.", True)
    assert QWEN.continued(prompt, "", "") == (prompt, bool(prompt))
