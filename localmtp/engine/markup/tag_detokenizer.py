"""Detokenization for models whose markers may be written in any tokens."""

from __future__ import annotations

import codecs

from localmtp.engine.events import Channel, Edge, Origin, Piece
from localmtp.engine.llama import Vocab
from localmtp.engine.llama.vocab import MARKER
from localmtp.engine.markup.kinds import Markup, longest_prefix_at_end

_NO_TOKEN = -1


class TagDetokenizer:
    """Detokenizes one answer, token by token, and separates it at markers such as `<think>`.

    Markers are found in the text, so text with which one may begin is held back until it is
    clear; it follows with a later token, or with `rest`. Line breaks after a marker are dropped.
    A tool call without a marker opens with a piece that has text.

    Args:
        vocab: of the target.
        markup: its markers.
        channel: of the first token; the prompt may have opened a thought.
        tool_calls: report tool calls in their own channel; otherwise they are part of the answer.
    """

    def __init__(
        self,
        vocab: Vocab,
        markup: Markup,
        channel: Channel = Channel.ANSWER,
        *,
        tool_calls: bool = False,
    ) -> None:
        self._vocab = vocab
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._markup = markup
        self._tool_calls = tool_calls
        self._channel, self._in_call = channel, False
        self._held = ""
        self._skips = channel is Channel.THOUGHT  # line breaks
        self._tokens = frozenset(marker.encode() for marker in markup.all)
        self._inside = frozenset(text.encode() for text in markup.inside)
        # Whether the answer may still be a tool call without a marker.
        self._open_question = bool(markup.bare) and tool_calls and channel is Channel.ANSWER

    def read(self, token_id: int, origin: Origin) -> Piece:
        """Detokenizes the next token; its text may be empty or complete earlier text."""
        data = self._vocab.piece(token_id)
        if not data:
            data = self._vocab.piece(token_id, special=True)
            written = data in self._tokens or (self._in_call and data in self._inside)
            data = data if written else b""
        elif data[:1] == b"<" and data not in self._tokens and MARKER.fullmatch(data):
            data = b""
        self._held += self._decoder.decode(data)
        if self._open_question and (piece := self._bare_call(token_id, origin)):
            return piece
        markers = self._markers()
        found = [(at, marker) for marker in markers if (at := self._held.find(marker)) >= 0]
        if not found:
            return self._emit(token_id, origin, longest_prefix_at_end(self._held, markers))
        at, marker = min(found)
        if at:
            return self._emit(token_id, origin, len(self._held) - at)
        self._held = self._held[len(marker) :]
        return self._cross(marker, token_id, origin)

    def rest(self, *, cut: bool) -> Piece | None:
        """Returns the text that was held back at the end of the answer, without a token.

        Args:
            cut: whether the answer was cut off: the beginning of a marker is dropped then.
        """
        held = self._held
        for marker in self._markers():
            held = held.replace(marker, "")
        beginning = longest_prefix_at_end(held, self._markers()) if cut else 0
        held = held[: len(held) - beginning] if beginning > 1 else held
        self._held = ""
        return Piece(_NO_TOKEN, held, Origin.UNKNOWN, self._channel) if held else None

    def _markers(self) -> tuple[str, ...]:
        """Markers that end the current channel, or open one."""
        thought, call = self._markup.thought, self._markup.call
        if self._in_call:
            return call[1:] if call[1] else call[:1]
        if self._channel is Channel.THOUGHT:
            return thought[1:]
        if self._tool_calls and self._markup.unopened:
            return (*self._markup.all, self._markup.unopened)
        return self._markup.all

    def _bare_call(self, token_id: int, origin: Origin) -> Piece | None:
        """Reports the beginning of a call without a marker; None if the answer is none."""
        seen = "".join(self._held.split())
        if any(beginning.startswith(seen) for beginning in self._markup.bare):
            return Piece(token_id, "", origin, self._channel)
        self._open_question = False
        if not seen.startswith(self._markup.bare):
            return None
        text, self._held = self._held, ""
        self._channel, self._in_call = Channel.TOOL_CALL, True
        return Piece(token_id, text, origin, self._channel, Edge.OPEN)

    def _emit(self, token_id: int, origin: Origin, kept: int) -> Piece:
        """Reports the held text except for its last `kept` characters."""
        end = len(self._held) - kept
        text, self._held = self._held[:end], self._held[end:]
        if self._skips and text:
            text = text.lstrip("\r\n")
            self._skips = not text
        return Piece(token_id, text, origin, self._channel)

    def _cross(self, marker: str, token_id: int, origin: Origin) -> Piece:
        self._skips = True
        if marker == self._markup.thought[0]:
            self._channel = Channel.THOUGHT
            return Piece(token_id, "", origin, self._channel, Edge.OPEN)
        if marker == self._markup.unopened:
            self._channel, self._in_call, self._skips = Channel.TOOL_CALL, True, False
            return Piece(token_id, marker, origin, self._channel, Edge.OPEN)
        if marker == self._markup.call[0]:
            self._in_call = True
            self._channel = Channel.TOOL_CALL if self._tool_calls else Channel.ANSWER
            return Piece(token_id, "", origin, self._channel, Edge.OPEN)
        piece = Piece(token_id, "", origin, self._channel, Edge.CLOSE)
        self._channel, self._in_call = Channel.ANSWER, False
        return piece
