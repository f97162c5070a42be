"""Measures the speedup of drafting on one prompt: repeated and interleaved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING

from localmtp.engine.stats import Stats
from localmtp.tui.answer_stream import AnswerStream
from localmtp.tui.rendering.answer_entry import AnswerEntry

if TYPE_CHECKING:
    from localmtp.media import Media
    from localmtp.session import Session

MAX_TOKENS = 512
"""Length limit of each answer: short, but long enough to see a difference."""

WARM_UP_TOKENS = 8
"""Length limit of the first answer, which is not counted: it prefills the prompt for all others,
and warms up threads and memory."""

MIN_TOKENS = 32
"""Shorter answers are not compared."""

MIN_RUNS = 3
MAX_RUNS = 7
"""Answers with drafting on, and as many with drafting off."""

TIME_LIMIT_S = 60.0
"""No answer is repeated after this time."""

TRIMMED_FROM = 5
"""Number of pairs from which the extremes are left out."""

MIN_SINGLE_S = 5.0
"""Decode time from which a pair of answers counts without repetition."""

MAX_SPREAD = 0.12
"""Largest range of the speedups of repeated pairs, relative to their median, that is reported.
From `TRIMMED_FROM` pairs on, the highest and the lowest are left out."""


@dataclass(slots=True)
class RaceRun:
    """One answer of a race.

    Its entry is updated by the screen, from the stream.
    """

    drafting: bool
    stream: AnswerStream
    counted: bool = True
    """False for the warm-up."""
    started_at: float = field(default_factory=monotonic)
    entry: AnswerEntry = field(default_factory=AnswerEntry)
    stats: Stats | None = None
    """Set when the answer is complete."""


class Race:
    """Answers a prompt with drafting off and on in turns, greedily, until the result is clear.

    Drafts have the length of the session's settings; automatic if these turn drafting off.

    Args:
        session: idle; its conversation and settings are restored at the end.
        prompt: to answer.
        media: images and sound that belong to it.
    """

    def __init__(self, session: Session, prompt: str, media: Sequence[Media] = ()) -> None:
        self._session = session
        self._prompt = prompt
        self._media = media
        self._stopped = False
        self.runs: list[RaceRun] = []
        """All answers so far, the running one last."""

    def stop(self) -> None:
        """Stops the running answer, and starts no other; callable from any thread."""
        self._stopped = True
        for run in self.runs[-1:]:
            run.stream.stop()

    def run(self) -> None:
        """Generates all answers; blocking, called in a thread.

        Raises:
            LocalmtpError: an answer failed.
        """
        until = monotonic() + TIME_LIMIT_S
        with _restored(self._session):
            self._answer(drafting=False, max_tokens=WARM_UP_TOKENS, counted=False)
            for _ in range(MAX_RUNS):
                for drafting in (False, True):
                    self._answer(drafting=drafting, max_tokens=MAX_TOKENS)
                if self._stopped or monotonic() > until or is_settled(*self.pairs()):
                    return

    def pairs(self) -> tuple[list[Stats], list[Stats]]:
        """Returns the statistics of complete answers with drafting off and on."""
        off = [run.stats for run in self.runs if run.stats and run.counted and not run.drafting]
        on = [run.stats for run in self.runs if run.stats and run.counted and run.drafting]
        return off, on

    def _answer(self, *, drafting: bool, max_tokens: int, counted: bool = True) -> None:
        if self._stopped:
            return
        session, settings = self._session, self._session.settings
        run = RaceRun(drafting, AnswerStream(session), counted)
        session.update_settings(
            replace(
                settings,
                sampling=replace(settings.sampling, temperature=0.0),
                n_draft=(settings.n_draft or None) if drafting else 0,
                max_tokens=min(settings.max_tokens or max_tokens, max_tokens),
            )
        )
        session.messages = []
        self.runs.append(run)
        try:
            run.stream.run(lambda: session.ask(self._prompt, self._media), lambda _: None)
        finally:
            session.update_settings(settings)
        if not self._stopped and len(session.messages) > 1:
            run.stats = session.messages[-1].stats


def is_settled(off: Sequence[Stats], on: Sequence[Stats]) -> bool:
    """Returns whether more repetitions would not change the result."""
    if _too_short(off, on) or not any(stats.drafted for stats in on):
        return True
    if min(stats.decode_s for stats in (*off, *on)) >= MIN_SINGLE_S:
        return True
    return len(on) >= MIN_RUNS and _spread(_speedups(off, on)) <= MAX_SPREAD


def measured_speedup(off: Sequence[Stats], on: Sequence[Stats]) -> float | None:
    """Returns the median speedup; None if the answers are too short or the runs too different.

    Args:
        off: answers with drafting off.
        on: answers with drafting on, in the same order.
    """
    if _too_short(off, on):
        return None
    speedups = _speedups(off, on)
    single = len(speedups) == 1 and min(off[0].decode_s, on[0].decode_s) < MIN_SINGLE_S
    if single or _spread(speedups) > MAX_SPREAD:
        return None
    # A pass with a draft takes at least as long as one without: what is faster than the tokens per
    # pass allow was slowed down by something else when drafting was off.
    speedup = median(speedups)
    return speedup if speedup <= median(stats.tokens_per_pass for stats in on) else None


def verdict(off: Sequence[Stats], on: Sequence[Stats]) -> str:
    """Describes the result in one line."""
    if _too_short(off, on):
        return "too short to compare: ask for a longer answer"
    if not any(stats.drafted for stats in on):
        return "nothing was drafted: automatic pacing expects no gain on this prompt"
    speedup, all_speedups = measured_speedup(off, on), _speedups(off, on)
    low, high = _range(all_speedups)
    if speedup is None and len(all_speedups) < MIN_RUNS:
        return "stopped too early to compare"
    if speedup is None:
        return f"no clear result: between {low:.2f}× and {high:.2f}× in {len(on)} runs"
    runs = f"median of {len(on)} runs, {low:.2f}–{high:.2f}" if len(on) > 1 else "one run"
    return f"speedup {speedup:.2f}× ({runs})"


def _too_short(off: Sequence[Stats], on: Sequence[Stats]) -> bool:
    pairs = list(zip(off, on, strict=False))
    return not pairs or any(
        stats.completion_tokens < MIN_TOKENS or stats.decode_s <= 0
        for pair in pairs
        for stats in pair
    )


def _speedups(off: Sequence[Stats], on: Sequence[Stats]) -> list[float]:
    pairs = zip(off, on, strict=False)
    return [b.decode_tokens_per_s / a.decode_tokens_per_s for a, b in pairs]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Returns lowest and highest value, without the extremes of five values or more."""
    inner = sorted(values)[1:-1] if len(values) >= TRIMMED_FROM else sorted(values)
    return inner[0], inner[-1]


def _spread(values: Sequence[float]) -> float:
    low, high = _range(values)
    return (high - low) / median(values)


@contextmanager
def _restored(session: Session) -> Iterator[None]:
    """Restores the session's conversation and settings at the end."""
    messages, settings = session.messages, session.settings
    try:
        yield
    finally:
        session.messages = messages
        session.update_settings(settings)
