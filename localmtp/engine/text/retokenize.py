"""Tokenizes prompts: structure and content separately, and known answers in their own tokens.

A model may write a word in other tokens than the tokenizer would. Tokenized again, its answer would
differ from the KV cache, and everything after it would be prefilled again; the model would also see
other tokens than those it chose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from localmtp.engine.llama import Vocab
from localmtp.engine.text.quoting import MARK, MEDIA_MARK, unquote

_CANDIDATE = re.compile(rf"<[^<>\s]{{1,64}}>|\[[^\[\]\s]{{1,64}}\]|{MEDIA_MARK}")
"""Pattern of structural tokens (`<bos>`, `<|turn>`, `[multimodal]`) and of media."""

_INSIDE = -1
"""End of an id inside an image or sound."""


def retokenize(
    vocab: Vocab, text: str, *known: Sequence[int], media: Sequence[Sequence[int]] = ()
) -> list[int]:
    """Returns the token ids of a prompt, with BOS in front exactly once if the model uses it.

    As far as the prompt repeats one of `known`, with the same structural tokens at the same places,
    its tokens are reused, up to a structural token: nothing is merged across one, so what follows
    is tokenized as it would be with all before it.

    Args:
        vocab: of the target.
        text: a rendered prompt, its content quoted (see `quoting`); or raw text.
        known: token ids of earlier prompts with their answers, from their first token on.
        media: ids of each image and sound, for the marks in `text` (see `media_marks`).
    """
    prompt = _DividedPrompt(vocab, text, media)
    matches = [(prompt.matching(tokens), tokens) for tokens in (*known, ())]
    ends, tokens = max(matches, key=lambda match: len(match[0]))
    while len(ends) > 1 and not prompt.is_seam(ends[-1]):
        ends.pop()
    first = len(prompt.opening)
    kept = tokens[first : first + len(ends) - 1]
    return [*prompt.opening, *kept, *prompt.tokens(ends[-1])]


@dataclass(frozen=True, slots=True)
class _PromptPart:
    """A control token, an image or sound, or text between two of them."""

    start: int
    """Offset of its first byte."""
    end: int
    text: str
    """Quoted."""
    ids: Sequence[int] | None
    """Ids of the control token, or of the image or sound; None for text."""


class _DividedPrompt:
    """A rendered prompt, divided at its control tokens."""

    def __init__(self, vocab: Vocab, text: str, media: Sequence[Sequence[int]]) -> None:
        self._vocab = vocab
        self._segments: list[_PromptPart] = []
        data = bytearray()
        for piece, ids in _divided(vocab, text, iter(media)):
            start = len(data)
            data += _bytes(piece)
            self._segments.append(_PromptPart(start, len(data), piece, ids))
        self._data = bytes(data)
        self._controls = {s.start: s.end for s in self._segments if s.ids is not None}
        self._texts = {s.start: s.end for s in self._segments if s.ids is None}
        self._media = {s.start: s for s in self._segments if s.ids and s.text == MEDIA_MARK}
        first = self._segments[0] if self._segments else None
        written = first is not None and first.ids == (vocab.bos,)
        self._start = first.end if first and written else 0
        self.opening = [vocab.bos] if written or vocab.opening else []
        """BOS, if the model uses it or the text begins with it."""

    def matching(self, tokens: Sequence[int]) -> list[int]:
        """Returns the offsets at which the tokens end that the prompt begins with, BOS first."""
        ends = [self._start]
        text_end = 0
        if [*tokens[: len(self.opening)]] != self.opening:
            return ends
        index = len(self.opening)
        while index < len(tokens):
            at, token = ends[-1], tokens[index]
            if found := self._media.get(at):
                ids = found.ids or ()
                if [*tokens[index : index + len(ids)]] != [*ids]:
                    break
                # Only its last id ends at an offset: a match never ends inside.
                ends += [_INSIDE] * (len(ids) - 1) + [found.end]
                index += len(ids)
                continue
            text_end = self._texts.get(at, text_end)
            piece = self._vocab.piece(token, special=True) if token >= 0 else b""
            end = at + len(piece)
            same = self._controls.get(at) == end if self._is_control(token) else end <= text_end
            if not piece or not same or not self._data.startswith(piece, at):
                break
            ends.append(end)
            index += 1
        return ends

    def is_seam(self, offset: int) -> bool:
        """Whether a segment starts or the prompt ends at an offset."""
        return offset in self._controls or offset in self._texts or offset == len(self._data)

    def tokens(self, offset: int) -> Iterator[int]:
        """Tokenizes the segments from an offset on."""
        for segment in self._segments:
            if segment.start < offset:
                continue
            if segment.ids is not None:
                yield from segment.ids
            else:
                yield from self._text_tokens(segment.text)

    def _text_tokens(self, text: str) -> Iterator[int]:
        if not MARK.search(text):
            yield from self._vocab.tokenize(text, special=True)
            return
        plain = unquote(text)
        cuts = [0, len(plain)]
        # libllama turns tokens that a file declares to be user-defined into tokens in any text:
        # one that structures a turn is cut after its first character.
        cuts += [
            match.start() + 1
            for match in _CANDIDATE.finditer(plain)
            if self._vocab.structural(match[0]) is not None
        ]
        cuts.sort()
        for start, end in pairwise(cuts):
            yield from self._vocab.tokenize(plain[start:end], special=False)

    def _is_control(self, token: int) -> bool:
        return token >= 0 and self._vocab.is_structural(token)


def _divided(
    vocab: Vocab, text: str, media: Iterator[Sequence[int]]
) -> Iterator[tuple[str, Sequence[int] | None]]:
    """Yields text, control tokens and media in order; quoted characters start none."""
    at = 0
    for match in _CANDIDATE.finditer(text):
        ids: Sequence[int] | None
        if match[0] == MEDIA_MARK:
            ids = next(media, None)
        else:
            token = vocab.structural(match[0])
            ids = None if token is None else (token,)
        if ids is None:
            continue
        if match.start() > at:
            yield text[at : match.start()], None
        yield match[0], ids
        at = match.end()
    if at < len(text):
        yield text[at:], None


def _bytes(text: str) -> bytes:
    return unquote(text).encode("utf-8", "surrogateescape")
