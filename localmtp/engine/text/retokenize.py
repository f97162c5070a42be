"""Prompts as token ids, spelled as the model itself spelled its answers.

A model may write a word in other tokens than the tokenizer would. Tokenised anew, its answer would
part from what the KV cache holds, and everything after it be prefilled again; the model would also
see other tokens than those it chose.
"""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.engine.llama import Vocab


def retokenize(vocab: Vocab, text: str, *known: Sequence[int]) -> list[int]:
    """Token ids of `text`, BOS in front exactly once.

    As long as the text is what one of `known` stands for, its tokens are kept, up to a control
    token: nothing is merged across one, so what follows is tokenised as it would be with all
    before it.

    Args:
        vocab: of the target.
        text: a rendered prompt.
        known: prompts with their answers as they were, from BOS on.
    """
    data = text.encode("utf-8", "surrogateescape")
    spellings = [(_ends(vocab, data, tokens), tokens) for tokens in (*known, ())]
    ends, tokens = max(spellings, key=lambda spelling: len(spelling[0]))
    rest = _tokenize(vocab, data[ends[-1] :])
    if rest and not _is_control(vocab, rest[0]):
        while len(ends) > 1 and not _is_control(vocab, tokens[len(ends) - 1]):
            ends.pop()
        rest = _tokenize(vocab, data[ends[-1] :])
    return [vocab.bos, *tokens[1 : len(ends)], *rest]


def _ends(vocab: Vocab, data: bytes, tokens: Sequence[int]) -> list[int]:
    """Where the tokens end that the text begins with, BOS being the first."""
    bos = vocab.piece(vocab.bos, special=True)
    ends = [len(bos) if data.startswith(bos) else 0]
    for token in tokens[1:]:
        piece = vocab.piece(token, special=True)
        if not piece or not data.startswith(piece, ends[-1]):
            break
        ends.append(ends[-1] + len(piece))
    return ends


def _tokenize(vocab: Vocab, data: bytes) -> list[int]:
    return vocab.tokenize(data.decode("utf-8", "surrogateescape"), special=True)


def _is_control(vocab: Vocab, token: int) -> bool:
    return not vocab.piece(token)
