"""Token ids to text: characters never broken, thoughts told from the answer."""

from __future__ import annotations

import codecs
import re

from localmtp.engine.events import Channel, Origin, Piece
from localmtp.engine.llama import Vocab

_OPEN, _CLOSE = "<|channel>", "<channel|>"
_NAME = "thought\n"

_MARKER = re.compile(rb'<\|(\w+|")\|?>|<\w+\|>')
"""Tokens of the turn's structure; files declare those of tool calls to be ordinary text."""


class Detokenizer:
    """Reads one answer's tokens in order.

    Gemma 4 opens a thought with `<|channel>thought` and a line break and ends it with
    `<channel|>`. The markers and the channel's name are not text.

    Args:
        vocab: of the target.
        channel: that the first token belongs to; a thought that was cut may be gone on with.
    """

    def __init__(self, vocab: Vocab, channel: Channel = Channel.ANSWER) -> None:
        self._vocab = vocab
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = _only(vocab.tokenize(_OPEN, special=True))
        self._close = _only(vocab.tokenize(_CLOSE, special=True))
        self._channel = channel
        self._in_name = False

    def read(self, token_id: int, origin: Origin) -> Piece:
        """The text that this token completes, if any."""
        if token_id == self._open:
            self._channel, self._in_name = Channel.THOUGHT, True
            return Piece(token_id, "", origin, self._channel)
        if token_id == self._close:
            channel, self._channel = self._channel, Channel.ANSWER
            return Piece(token_id, "", origin, channel)
        data = self._vocab.piece(token_id)
        text = self._decoder.decode(b"" if _MARKER.fullmatch(data) else data)
        if self._in_name:
            _, line_break, text = text.partition("\n")
            self._in_name = not line_break
        return Piece(token_id, text, origin, self._channel)


def as_written(thought: str, answer: str) -> str:
    """A turn that was cut, as the model wrote it: what a `Detokenizer` made of it, undone."""
    if not thought:
        return answer
    return f"{_OPEN}{_NAME}{thought}" + (f"{_CLOSE}{answer}" if answer else "")


def _only(ids: list[int]) -> int:
    """The id of a marker that is one token; -1 for a vocabulary that does not know it."""
    return ids[0] if len(ids) == 1 else -1
