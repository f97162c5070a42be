"""Prometheus metrics: the only definition of the names on `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from localmtp.engine.stats import Counters

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Metrics of this process since it started; thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests answered, by HTTP status.", "status")
        self.answers = self._counter("answers", "Choices generated, by finish reason.", "reason")
        self._calls = self._counter(
            "tool_calls", "Tool calls, by whether they could be parsed.", "result"
        )
        self.running = self._gauge("requests_running", "Requests that are generating.")
        self.waiting = self._gauge("requests_waiting", "Requests in the queue.")
        self.queue_s = self._histogram(
            "queue_seconds", "Time from arrival to the start of generation, in seconds."
        )
        self._ttft_s = self._histogram(
            "first_token_seconds", "Time to first token, from the start of prefill, in seconds."
        )
        self._prompt = self._counter("prompt_tokens", "Prompt tokens, including reused ones.")
        self._reused = self._counter("reused_tokens", "Prompt tokens reused from the KV cache.")
        self._completion = self._counter("completion_tokens", "Generated tokens.")
        self._passes = self._counter(
            "target_passes", "Target passes after prefill, by tokens drafted.", "draft_length"
        )
        self._drafted = self._counter(
            "drafted_tokens", "Draft tokens verified, by position in the draft.", "position"
        )
        self._accepted = self._counter(
            "accepted_tokens", "Draft tokens accepted, by position in the draft.", "position"
        )
        self._seconds = self._counter("seconds", "Generation time, by part.", "part")
        self.media = self._counter("media", "Images and sounds of requests, by kind.", "kind")
        self._media_tokens = self._counter(
            "media_tokens",
            "Prompt tokens of images and sounds, by whether they were in memory.",
            "source",
        )

    def count(self, counters: Counters, reason: str) -> None:
        """Add one choice, complete or cut off."""
        stats = counters.snapshot()
        self.answers.labels(reason).inc()
        self._prompt.inc(stats.prompt_tokens)
        self._reused.inc(stats.reused_tokens)
        self._completion.inc(stats.completion_tokens)
        if counters.first_token:
            self._ttft_s.observe(stats.ttft_s)
        self._count_drafts(counters)
        for source, tokens in (
            ("encoded", stats.encoded_tokens),
            ("memory", stats.media_tokens - stats.encoded_tokens),
        ):
            if tokens > 0:
                self._media_tokens.labels(source).inc(tokens)
        parts = {"encode": stats.encode_s, "prefill": stats.prefill_s - stats.encode_s}
        parts["draft"] = stats.time.draft_s
        parts |= {"verify": stats.time.verify_s, "sample": stats.time.sample_s}
        for part, seconds in (parts | {"other": stats.time.other_s}).items():
            self._seconds.labels(part).inc(seconds)

    def count_calls(self, parsed: int, unparsed: int) -> None:
        """Add the tool calls of one choice."""
        for result, number in (("parsed", parsed), ("unparsed", unparsed)):
            if number:
                self._calls.labels(result).inc(number)

    def page(self) -> bytes:
        """The page, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _count_drafts(self, counters: Counters) -> None:
        # Number of passes with at least this draft length; differences give the exact lengths.
        reached = [counters.target_passes, *counters.drafted_at, 0]
        for length in range(len(counters.drafted_at) + 1):
            if passes := reached[length] - reached[length + 1]:
                self._passes.labels(str(length)).inc(passes)
        pairs = zip(counters.drafted_at, counters.accepted_at, strict=True)
        for position, (drafted, accepted) in enumerate(pairs, start=1):
            if drafted:
                self._drafted.labels(str(position)).inc(drafted)
                self._accepted.labels(str(position)).inc(accepted)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"localmtp_{name}", help_text, labels, registry=self._registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"localmtp_{name}", help_text, registry=self._registry)

    def _histogram(self, name: str, help_text: str) -> Histogram:
        return Histogram(f"localmtp_{name}", help_text, registry=self._registry, buckets=_SECONDS)
