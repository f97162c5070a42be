"""What generation tells its listeners: a closed union, one `Generated` per target pass."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from localmtp.engine.stats import Stats


class Origin(StrEnum):
    """How a token came to be."""

    PREFILL = "prefill"
    """Chosen from the last row of the prompt."""
    TARGET = "target"
    """The target's own: a pass without drafts, a correction after a rejection, or the bonus."""
    DRAFT = "draft"
    """Proposed by the drafter and accepted by the target."""
    UNTOLD = "untold"
    """Another engine's, which does not say."""


class Channel(StrEnum):
    """Which part of the turn a token belongs to."""

    ANSWER = "answer"
    THOUGHT = "thought"
    TOOL_CALL = "tool_call"
    """A function call in the model's notation; see `localmtp.engine.text.tool_calls`."""


class Edge(StrEnum):
    """Whether a token is a marker around a channel; markers have no text."""

    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


class FinishReason(StrEnum):
    """Why generation ended."""

    STOP = "stop"
    """The model ended its turn."""
    LENGTH = "length"
    """`max_tokens` or the context was reached."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """What answered, a server or a process, was lost or failed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One generated token and the text that it completed."""

    token_id: int
    text: str
    """Empty while a character is still split over tokens, and for control tokens."""
    origin: Origin
    channel: Channel = Channel.ANSWER
    edge: Edge = Edge.NONE


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Progress through the prompt, after each batch."""

    done: int
    """Prompt tokens in the KV cache now, reused ones included."""
    total: int
    reused: int
    """Prompt tokens that were in the KV cache already."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What one pass produced (the first event: the token chosen after prefill)."""

    pieces: tuple[Piece, ...]
    drafted: tuple[int, ...] = ()
    """Token ids that were proposed; the accepted ones are a prefix of it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event, always."""

    reason: FinishReason
    stats: Stats


Event = Prefilled | Generated | Finished
