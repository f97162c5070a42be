"""Converts the chunks of a streamed answer to events and counters.

Fields beyond OpenAI's depend on the server:

- llama.cpp: `timings` with running totals (`predicted_n`, `predicted_ms`, `draft_n`,
  `draft_n_accepted`), from which passes can be reconstructed, and `prompt_progress`
  (tools/server/README.md);
- vLLM: `usage` in every chunk, and, started with `--per-request-spec-decode-metrics`,
  `metrics.speculative_decoding` in the last (docs/features/speculative_decoding), in one format
  up to 0.31 and another from 0.32;
- localmtp: `stats` next to the finish reason, as in `localmtp run --json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from localmtp.engine.events import Channel, Generated, Origin, Piece, Prefilled
from localmtp.engine.stats import Counters, TimeSpent
from localmtp.remote.json_input import count, mapping, number, text
from localmtp.remote.tool_calls import StreamedCalls

LONGEST_DRAFT = 64
"""Maximum draft length of other engines (llama.cpp's n-gram drafts)."""

UNKNOWN_TOKEN = -1
"""Placeholder: OpenAI's API does not report token ids."""

_SERVER_FIELDS = (
    *("prefill_s", "prefill_tokens_per_s", "reused_tokens", "target_passes", "draft_steps"),
    *("drafted", "accepted", "acceptance_rate", "tokens_per_pass", "draft_length_mean"),
    *("drafting", "context_size"),
)
"""Fields of localmtp's `stats` that the server measures; the client measures the others."""

_MEDIA_FIELDS = ("media", "media_tokens", "encoded_tokens", "encode_s")
"""More of them, which older servers do not have."""

_Spans = Sequence[tuple[Channel, str]]


class ChunkReader:
    """Reads one answer, chunk by chunk.

    Args:
        counters: updated with every chunk.
    """

    def __init__(self, counters: Counters) -> None:
        self.finish_reason = ""
        """Finish reason from the server; empty until it arrives."""
        self.reports_drafts = False
        """Whether the chunks contain draft counts."""
        self.reported: dict[str, Any] = {}
        """Fields of `Stats` measured by the server."""
        self.calls = StreamedCalls()
        self._counters = counters
        self._passes = _Passes(counters)

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Prefilled | Generated]:
        """Count a chunk and convert it to events."""
        if progress := chunk.get("prompt_progress"):
            yield Prefilled(*(count(progress[name]) for name in ("processed", "total", "cache")))
        choices = chunk.get("choices") or [{}]
        self.finish_reason = choices[0].get("finish_reason") or self.finish_reason
        spans = list(_spans_of(choices[0]))
        if self.calls.read(choices[0]) or spans:
            self._clock()
        if stats := choices[0].get("stats"):
            self.reported = _measured(stats)
            self._at_least(number(stats["decode_s"]))
        if timings := chunk.get("timings"):
            self.reports_drafts = True
            self._count_prompt(timings)
            self._at_least(number(timings.get("predicted_ms", 0.0)) / 1e3)
            yield from self._passes.add(spans, timings)
        elif spans:
            self._counters.completion_tokens += 1  # a lower bound until the usage arrives
            yield Generated(_pieces(spans, Origin.UNKNOWN))
        self._count(chunk)

    def rest(self) -> Iterator[Generated]:
        """Release the last, incomplete pass."""
        yield from self._passes.flush()

    def _clock(self) -> None:
        now = perf_counter()
        counters = self._counters
        counters.last_token = now
        if not counters.first_token:
            counters.first_token = now

    def _at_least(self, decode_s: float) -> None:
        """Correct the clock: chunks that were buffered arrive together, but took this long."""
        counters = self._counters
        if counters.first_token:
            counters.last_token = max(counters.last_token, counters.first_token + decode_s)

    def _count_prompt(self, timings: Mapping[str, Any]) -> None:
        counters = self._counters
        counters.reused_tokens = count(timings["cache_n"])
        counters.prompt_tokens = counters.reused_tokens + count(timings["prompt_n"])
        counters.prefilled = counters.started + number(timings["prompt_ms"]) / 1e3

    def _count(self, chunk: Mapping[str, Any]) -> None:
        counters = self._counters
        usage = chunk.get("usage")
        if isinstance(usage, Mapping):
            # Some servers send null or text: then the chunks are counted.
            with suppress(ValueError):
                counters.prompt_tokens = count(usage.get("prompt_tokens"))
            with suppress(ValueError):
                counters.completion_tokens = count(usage.get("completion_tokens"))
        drafting = mapping(mapping(chunk.get("metrics")).get("speculative_decoding"))
        if drafting:
            with suppress(ValueError, TypeError, AttributeError):
                # What is not understood is left to the metrics page.
                self._count_histograms(_histograms(drafting))
                self.reports_drafts = True
        counters.context_used = counters.prompt_tokens + counters.completion_tokens

    def _count_histograms(self, histograms: Mapping[int, Sequence[int]]) -> None:
        """Add passes by draft length and number of accepted tokens."""
        counters = self._counters
        for length, steps in histograms.items():
            for accepted, passes in enumerate(steps):
                counters.target_passes += passes
                counters.draft_steps += passes * length
                for i in range(length):
                    counters.drafted_at[i] += passes
                    counters.accepted_at[i] += passes if i < accepted else 0
        # Passes without a draft are not in the histogram.
        alone = counters.completion_tokens - 1 - sum(counters.accepted_at)
        counters.target_passes = max(counters.target_passes, alone)


def _histograms(drafting: Mapping[str, Any]) -> Mapping[int, Sequence[int]]:
    """Numbers of passes by accepted tokens, by draft length.

    Raises:
        ValueError: the format is unknown.
    """
    by_length = drafting.get("acceptance_histogram_by_draft_length")
    if by_length is None:
        steps = [count(passes) for passes in drafting.get("acceptance_histogram") or ()]
        passes, drafted = sum(steps), count(drafting.get("num_draft_tokens"))
        if not passes or drafted % passes:
            raise ValueError("drafts of different lengths")
        histograms = {drafted // passes: steps}
    else:
        histograms = {int(n): [count(passes) for passes in steps] for n, steps in by_length.items()}
    for length, steps in histograms.items():
        if not 0 <= length <= LONGEST_DRAFT or len(steps) > length + 1:
            raise ValueError("not a histogram")
    return histograms


class _Passes:
    """Groups tokens by pass, from llama.cpp's running totals.

    A pass produces the accepted draft tokens and one token of the target.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._drafted = 0
        self._accepted = 0
        self._pieces: list[Piece] = []
        self._proposed = 0
        self._awaited = 0

    def add(self, spans: _Spans, timings: Mapping[str, Any]) -> Iterator[Generated]:
        """Add a chunk; usually one token, possibly without text."""
        counters = self._counters
        new = count(timings["predicted_n"]) - counters.completion_tokens
        drafted = max(0, count(timings.get("draft_n", 0)) - self._drafted)
        if new <= 0 and not spans:
            return
        first = not counters.completion_tokens
        counters.completion_tokens += max(0, new)
        if drafted:
            yield from self.flush()
            accepted = max(0, count(timings["draft_n_accepted"]) - self._accepted)
            self._drafted += drafted
            self._accepted += accepted
            self._proposed = min(drafted, LONGEST_DRAFT)
            self._awaited = accepted + 1
            counters.count_round(self._proposed, self._proposed, min(accepted, self._proposed))
        elif not self._awaited and not first:
            counters.count_round(0, 0, 0)
        target = Origin.PREFILL if first else Origin.TARGET
        origin = Origin.DRAFT if self._awaited > 1 else target
        self._pieces += _pieces(spans or [(Channel.ANSWER, "")], origin)
        self._awaited = max(0, self._awaited - new)
        if not self._awaited:
            yield from self.flush()

    def flush(self) -> Iterator[Generated]:
        """Release the current pass."""
        if self._pieces:
            yield Generated(tuple(self._pieces), (UNKNOWN_TOKEN,) * self._proposed)
        self._pieces, self._proposed, self._awaited = [], 0, 0


def _measured(stats: Mapping[str, Any]) -> dict[str, Any]:
    reported: dict[str, Any] = {name: stats[name] for name in _SERVER_FIELDS}
    for name, value in reported.items():
        checked = text if name == "drafting" else number
        if not (value is None and name == "acceptance_rate"):
            checked(value)
    for name in _MEDIA_FIELDS:
        value = stats.get(name, 0)
        reported[name] = number(value) if name == "encode_s" else count(value)
    reported["acceptance_rate"] = reported["acceptance_rate"] or 0.0  # null: nothing drafted
    by_position = tuple(number(rate) for rate in stats["acceptance_by_position"])
    time = {name: number(seconds) for name, seconds in stats["time"].items()}
    return reported | {"acceptance_by_position": by_position, "time": TimeSpent(**time)}


def _pieces(spans: _Spans, origin: Origin) -> tuple[Piece, ...]:
    return tuple(Piece(UNKNOWN_TOKEN, words, origin, channel) for channel, words in spans)


def _spans_of(choice: Mapping[str, Any]) -> Iterator[tuple[Channel, str]]:
    """Texts of a choice with their channels; completions have neither role nor thought."""
    delta = choice.get("delta") or {}
    # vLLM renamed the field; llama.cpp and others use the old name.
    if thought := text(delta.get("reasoning") or delta.get("reasoning_content")):
        yield Channel.THOUGHT, thought
    if answer := text(delta.get("content") or choice.get("text")):
        yield Channel.ANSWER, answer
