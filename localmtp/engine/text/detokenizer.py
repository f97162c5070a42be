"""Detokenization: text from token ids, separated by channel."""

from __future__ import annotations

import codecs

from localmtp.engine.events import Channel, Edge, Origin, Piece
from localmtp.engine.llama import Vocab
from localmtp.engine.llama.vocab import MARKER
from localmtp.engine.markup.kinds import GEMMA4, Markup
from localmtp.engine.markup.tag_detokenizer import TagDetokenizer
from localmtp.engine.sampling.thought_limit import ThoughtMarkers
from localmtp.engine.text.tool_calls import QUOTE

_OPEN, _CLOSE = GEMMA4.thought
_OPEN_CALL, _CLOSE_CALL = GEMMA4.call
_ENOUGH = "\n\nI have to answer now, with what I have worked out so far.\n"
"""Ends a thought that exceeds its budget: an answer follows a conclusion better than a broken
sentence."""


class Detokenizer:
    """Detokenizes one answer, token by token.

    Gemma 4 opens a thought with `<|channel>thought` and a line break and closes it with
    `<channel|>`; a tool call is enclosed in `<|tool_call>` and `<tool_call|>`. These token ids
    switch the channel, text that looks like them does not. Markers and the name of the channel
    have no text.

    Args:
        vocab: of the target.
        channel: of the first token; a resumed answer may start inside a thought.
        tool_calls: report tool calls in their own channel, with `QUOTE` around strings; otherwise
            they are part of the answer, with ordinary quotation marks.
    """

    def __init__(
        self, vocab: Vocab, channel: Channel = Channel.ANSWER, *, tool_calls: bool = False
    ) -> None:
        self._vocab = vocab
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = _only(vocab.tokenize(_OPEN, special=True))
        self._close = _only(vocab.tokenize(_CLOSE, special=True))
        self._open_call = _only(vocab.tokenize(_OPEN_CALL, special=True))
        self._close_call = _only(vocab.tokenize(_CLOSE_CALL, special=True))
        self._quote = _only(vocab.tokenize(QUOTE, special=True))
        markers = self._open, self._close, self._open_call, self._close_call, self._quote
        self._markers = frozenset(markers)
        self._tool_calls = tool_calls
        self._channel, self._in_name, self._in_call = channel, False, False

    def read(self, token_id: int, origin: Origin) -> Piece:
        """Detokenize the next token; its text may be empty or complete an earlier character."""
        if token_id in self._markers and (piece := self._read_marker(token_id, origin)):
            return piece
        data = self._vocab.piece(token_id)
        if data[:1] == b"<" and MARKER.fullmatch(data):
            data = b""
        text = self._decoder.decode(data)
        if self._in_name:
            _, line_break, text = text.partition("\n")
            self._in_name = not line_break
        return Piece(token_id, text, origin, self._channel)

    def rest(self, *, cut: bool) -> Piece | None:
        """Returns None: nothing is held back."""
        return None

    def _read_marker(self, token_id: int, origin: Origin) -> Piece | None:
        """Reads a marker; None where it marks nothing, as a quotation mark outside of a call."""
        if token_id == self._open:
            return self._enter(token_id, origin, Channel.THOUGHT)
        if token_id == self._open_call:
            return self._enter(token_id, origin, Channel.TOOL_CALL)
        if token_id == self._close or (token_id == self._close_call and self._in_call):
            piece = Piece(token_id, "", origin, self._channel, Edge.CLOSE)
            self._channel, self._in_call = Channel.ANSWER, False
            self._decoder.reset()
            return piece
        if token_id == self._quote and self._in_call:
            mark = QUOTE if self._tool_calls else '"'
            text = self._decoder.decode(mark.encode())
            return Piece(token_id, text, origin, self._channel)
        return None

    def _enter(self, token_id: int, origin: Origin, channel: Channel) -> Piece:
        self._in_name = channel is Channel.THOUGHT
        self._in_call = channel is Channel.TOOL_CALL
        if self._in_call and not self._tool_calls:
            channel = Channel.ANSWER
        self._channel = channel
        self._decoder.reset()  # an incomplete character never ends in another channel
        return Piece(token_id, "", origin, channel, Edge.OPEN)


def detokenizer(
    vocab: Vocab, markup: Markup, channel: Channel = Channel.ANSWER, *, tool_calls: bool = False
) -> Detokenizer | TagDetokenizer:
    """Returns the detokenizer of an answer; see the classes for the arguments."""
    if markup.as_tokens:
        return Detokenizer(vocab, channel, tool_calls=tool_calls)
    return TagDetokenizer(vocab, markup, channel, tool_calls=tool_calls)


def thought_markers(vocab: Vocab, markup: Markup) -> ThoughtMarkers | None:
    """Returns the markers of thoughts; None if the model has none, or writes them in text."""
    opening, closing = (_only(vocab.tokenize(text, special=True)) for text in markup.thought)
    if opening < 0 or closing < 0:
        return None
    name, sentence = (vocab.tokenize(text, special=False) for text in (markup.name, _ENOUGH))
    return ThoughtMarkers(opening, closing, len(name), tuple(sentence))


def _only(ids: list[int]) -> int:
    """Id of a marker that is a single token; -1 if the vocabulary does not have it."""
    return ids[0] if len(ids) == 1 else -1
