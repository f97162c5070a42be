"""Prompts retain the tokens that the model chose, and always represent the same text."""

import pytest

from localmtp.engine.pair import Pair
from localmtp.engine.text.retokenize import retokenize

ASKED = "<bos><|turn>user\nHello, naïve world<turn|>\n<|turn>model\n"
ANSWER = "The cat sat on the mat."
NEXT = "<turn|>\n<|turn>user\nAgain!<turn|>\n<|turn>model\n"


def canonical(pair: Pair, text: str) -> list[int]:
    return pair.target.vocab.tokenize(text, special=True)


def letter_by_letter(pair: Pair, text: str) -> list[int]:
    """Returns tokens of a text that the tokenizer would not choose."""
    return [i for letter in text for i in pair.target.vocab.tokenize(letter, special=False)]


def text_of(pair: Pair, tokens: list[int]) -> str:
    return b"".join(pair.target.vocab.piece(i, special=True) for i in tokens).decode()


def test_without_known_tokens_the_text_is_tokenized(pair: Pair) -> None:
    text = ASKED + ANSWER + NEXT
    assert retokenize(pair.target.vocab, text, []) == canonical(pair, text)
    assert retokenize(pair.target.vocab, text.removeprefix("<bos>"), []) == canonical(pair, text)


def test_an_answer_keeps_its_tokens(pair: Pair) -> None:
    known = canonical(pair, ASKED) + letter_by_letter(pair, ANSWER)
    found = retokenize(pair.target.vocab, ASKED + ANSWER + NEXT, known)
    assert found == known + canonical(pair, NEXT)
    assert text_of(pair, found) == ASKED + ANSWER + NEXT


@pytest.mark.parametrize(
    "text",
    [
        ASKED + "The cat stood." + NEXT,
        ASKED + ANSWER + " Then it left." + NEXT,
        ASKED.replace("Hello", "Help") + ANSWER + NEXT,
        ASKED + NEXT,
    ],
)
def test_another_text_is_tokenized_again(pair: Pair, text: str) -> None:
    known = canonical(pair, ASKED) + letter_by_letter(pair, ANSWER)
    assert retokenize(pair.target.vocab, text, known) == canonical(pair, text)


def test_a_removed_thought_leaves_no_seam(pair: Pair) -> None:
    known = canonical(pair, f"{ASKED}<|channel>thought\nA cat?\n<channel|>{ANSWER}")
    text = ASKED + ANSWER + NEXT
    assert retokenize(pair.target.vocab, text, known) == canonical(pair, text)
