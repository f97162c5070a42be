"""A session with fixed text and statistics, for snapshots independent of model and clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from localmtp.engine.events import (
    Event,
    Finished,
    FinishReason,
    Generated,
    Origin,
    Piece,
    Prefilled,
)
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.session import Message, Session, Settings

STATS = Stats(
    load_s=0.1,
    prefill_s=0.02,
    ttft_s=0.031,
    decode_s=0.5,
    prefill_tokens_per_s=1240.0,
    decode_tokens_per_s=41.2,
    target_passes=80,
    draft_steps=240,
    drafted=240,
    accepted=149,
    acceptance_rate=0.62,
    tokens_per_pass=2.86,
    acceptance_by_position=(0.81, 0.62, 0.43),
    draft_length_mean=3.0,
    drafting="on",
    time=TimeSpent(draft_s=0.1, verify_s=0.35, sample_s=0.02, other_s=0.03),
    prompt_tokens=21,
    reused_tokens=0,
    completion_tokens=214,
    context_used=2350,
    context_size=8192,
)
MEMORY = {
    "target": 4_900_000_000,
    "drafter": 97_000_000,
    "cache": 310_000_000,
    "buffers": 84_000_000,
}
MARKDOWN = "It **works**:\n\n```python\ndef f(x):\n    return x + 1\n```\n\n1. one\n2. two\n"


def rounds(text: str) -> Iterator[Generated]:
    """Yields a text in passes: a first word, then two drafted words, both or one accepted."""
    first, *words = [word if not n else f" {word}" for n, word in enumerate(text.split(" "))]
    yield Generated((Piece(7, first, Origin.PREFILL),))
    accept = (2, 1)
    while words:
        accepted = min(accept[0], len(words) - 1)
        accept = (accept[1], accept[0])
        drafts = [Piece(7, word, Origin.DRAFT) for word in words[:accepted]]
        yield Generated((*drafts, Piece(7, words[accepted], Origin.TARGET)), (11, 12))
        words = words[accepted + 1 :]


class FrozenSession(Session):
    """Answers every question with the same text and statistics.

    Args:
        text: the answer.
        holds: whether the answer stays unfinished until it is cancelled.
    """

    def __init__(self, text: str = MARKDOWN, *, holds: bool = False) -> None:
        super().__init__("gemma4-e4b:Q4_0", "mtp-gemma-4-E4B-it", Settings())
        self.device, self.memory = "CPU, 8 threads", MEMORY
        self._text = text
        self._holds = holds
        self._cancelled = threading.Event()

    @property
    def plain_tokens_per_s(self) -> float:
        return 24.0

    @property
    def drafting(self) -> str:
        return "on"

    def complete(self, text: str) -> Iterator[Event]:
        return self._reply(())

    def stats(self) -> Stats:
        return STATS

    def prompt(self) -> str:
        return ""

    def close(self) -> None:
        self.cancel()

    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        yield Prefilled(21, 21, 0)
        yield from rounds(self._text)
        if self._holds:
            self._cancelled.wait()
        yield Finished(FinishReason.STOP, STATS)
