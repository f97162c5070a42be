"""From the chunks of a streamed answer to events and counters.

What a chunk holds beyond OpenAI's fields depends on the server:

- llama.cpp: `timings` with running totals (`predicted_n`, `predicted_ms`, `draft_n`,
  `draft_n_accepted`), from which every pass can be told, and `prompt_progress`
  (tools/server/README.md);
- vLLM: `usage` in every chunk, and, started with `--per-request-spec-decode-metrics`,
  `metrics.speculative_decoding` in the last (docs/features/speculative_decoding);
- localmtp: `stats` beside the finish reason, as `localmtp run --json` has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

from localmtp.engine.events import Channel, Generated, Origin, Piece, Prefilled
from localmtp.engine.stats import Counters, TimeSpent

LONGEST_DRAFT = 64
"""Of other engines: llama.cpp's n-gram drafts may be that long."""

UNKNOWN_TOKEN = -1
"""In place of the token ids, which OpenAI's API does not tell."""

_SERVERS_OWN = (
    *("prefill_s", "prefill_tokens_per_s", "reused_tokens", "target_passes", "draft_steps"),
    *("drafted", "accepted", "acceptance_rate", "tokens_per_pass", "draft_length_mean"),
    *("drafting", "context_size"),
)
"""Of localmtp's `stats`; the other figures are what the client sees."""

_Said = Sequence[tuple[Channel, str]]


class Reader:
    """Reads one answer, chunk by chunk.

    Args:
        counters: are kept up to date.
    """

    def __init__(self, counters: Counters) -> None:
        self.finish_reason = ""
        """As the server gave it; empty while it has not."""
        self.drafts_told = False
        """Whether the chunks tell about drafting."""
        self.told: dict[str, Any] = {}
        """Fields of `Stats` that the server has measured itself."""
        self._counters = counters
        self._passes = _Passes(counters)

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Prefilled | Generated]:
        """Count a chunk and tell what it brings."""
        if progress := chunk.get("prompt_progress"):
            yield Prefilled(progress["processed"], progress["total"], progress["cache"])
        choices = chunk.get("choices") or [{}]
        self.finish_reason = choices[0].get("finish_reason") or self.finish_reason
        said = list(_said(choices[0]))
        if said:
            self._clock()
        if stats := choices[0].get("stats"):
            self.told = _measured(stats)
            self._no_faster_than(stats["decode_s"])
        if timings := chunk.get("timings"):
            self.drafts_told = True
            self._count_prompt(timings)
            self._no_faster_than(timings.get("predicted_ms", 0.0) / 1e3)
            yield from self._passes.add(said, timings)
        elif said:
            self._counters.completion_tokens += 1  # at least; the usage tells how many
            yield Generated(_pieces(said, Origin.UNTOLD))
        self._count(chunk)

    def rest(self) -> Iterator[Generated]:
        """What is held back until its pass is complete."""
        yield from self._passes.flush()

    def _clock(self) -> None:
        now = perf_counter()
        counters = self._counters
        counters.last_token = now
        if not counters.first_token:
            counters.first_token = now

    def _no_faster_than(self, decode_s: float) -> None:
        """Chunks that waited to be read came late, but took the server that long to make."""
        counters = self._counters
        if counters.first_token:
            counters.last_token = max(counters.last_token, counters.first_token + decode_s)

    def _count_prompt(self, timings: Mapping[str, Any]) -> None:
        counters = self._counters
        counters.reused_tokens = timings["cache_n"]
        counters.prompt_tokens = timings["cache_n"] + timings["prompt_n"]
        counters.prefilled = counters.started + timings["prompt_ms"] / 1e3

    def _count(self, chunk: Mapping[str, Any]) -> None:
        counters = self._counters
        if usage := chunk.get("usage"):
            counters.prompt_tokens = usage["prompt_tokens"]
            counters.completion_tokens = usage.get("completion_tokens", 0)
        drafting = (chunk.get("metrics") or {}).get("speculative_decoding")
        if drafting:
            self.drafts_told = True
            for length, steps in drafting["acceptance_histogram_by_draft_length"].items():
                for accepted, times in enumerate(steps):
                    for _ in range(times):
                        counters.count_round(int(length), int(length), accepted)
            # Passes for which nothing was drafted are not in the histogram.
            alone = counters.completion_tokens - 1 - sum(counters.accepted_at)
            counters.target_passes = max(counters.target_passes, alone)
        counters.context_used = counters.prompt_tokens + counters.completion_tokens


class _Passes:
    """Puts tokens together to passes, from llama.cpp's running totals.

    A pass is as long as what was accepted of its draft, and one more: the target's own.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._drafted = 0
        self._accepted = 0
        self._pieces: list[Piece] = []
        self._proposed = 0
        self._awaited = 0

    def add(self, said: _Said, timings: Mapping[str, Any]) -> Iterator[Generated]:
        """Add what one chunk brings; usually one token, which may be without text."""
        counters = self._counters
        new = timings["predicted_n"] - counters.completion_tokens
        drafted = timings.get("draft_n", 0) - self._drafted
        if new <= 0 and not said:
            return
        first = not counters.completion_tokens
        counters.completion_tokens += max(0, new)
        if drafted:
            yield from self.flush()
            accepted = timings["draft_n_accepted"] - self._accepted
            self._drafted += drafted
            self._accepted += accepted
            self._proposed = min(drafted, LONGEST_DRAFT)
            self._awaited = accepted + 1
            counters.count_round(self._proposed, self._proposed, min(accepted, self._proposed))
        elif not self._awaited and not first:
            counters.count_round(0, 0, 0)
        target = Origin.PREFILL if first else Origin.TARGET
        origin = Origin.DRAFT if self._awaited > 1 else target
        self._pieces += _pieces(said or [(Channel.ANSWER, "")], origin)
        self._awaited = max(0, self._awaited - new)
        if not self._awaited:
            yield from self.flush()

    def flush(self) -> Iterator[Generated]:
        """End the pass."""
        if self._pieces:
            yield Generated(tuple(self._pieces), (UNKNOWN_TOKEN,) * self._proposed)
        self._pieces, self._proposed, self._awaited = [], 0, 0


def _measured(stats: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: stats[name] for name in _SERVERS_OWN}
    told["acceptance_by_position"] = tuple(stats["acceptance_by_position"])
    return told | {"time": TimeSpent(**stats["time"])}


def _pieces(said: _Said, origin: Origin) -> tuple[Piece, ...]:
    return tuple(Piece(UNKNOWN_TOKEN, text, origin, channel) for channel, text in said)


def _said(choice: Mapping[str, Any]) -> Iterator[tuple[Channel, str]]:
    """Thought and answer of a choice; completions have neither role nor thought."""
    delta = choice.get("delta") or {}
    # vLLM has renamed the field; llama.cpp and others keep the old name.
    if thought := delta.get("reasoning") or delta.get("reasoning_content"):
        yield Channel.THOUGHT, thought
    if text := delta.get("content") or choice.get("text"):
        yield Channel.ANSWER, text
