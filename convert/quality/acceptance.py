"""How much of a drafter's drafts its target accepts, going on from passages of a text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from localmtp.convert.quality.divergence import passages
from localmtp.convert.quality.report import DrafterScore
from localmtp.engine.decoding.generate import Generation
from localmtp.engine.pacing import FixedPacing
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.sampler import Greedy
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import Detokenizer

_PROMPT = 256
"""Tokens of each passage that are given; the rest is held back."""

_CONTINUED = 64
"""Tokens that the pair goes on with."""

_CONTEXT = 512

_DRAFT = 6
"""Draft length: Google's own setting for the smaller drafters, and longer than pays on most
machines."""


def score_drafter(
    file: tuple[Path, str],
    target: Path,
    text: str,
    threads: int,
    progress: Callable[[Path, int, int], None],
) -> DrafterScore:
    """Let a pair go on from every passage, both greedy, at a fixed draft length.

    Args:
        file: the drafter and its quantization.
        target: its target.
        text: whose passages begin the answers.
        threads: to run them on.
        progress: is told the file, and how many of how many passages are done.

    Raises:
        LocalmtpError: the text is too short, or the pair cannot be run.
    """
    path, quant = file
    total = Counters(completion_tokens=1)
    with Pair.load(target, path, LoadOptions(context=_CONTEXT, threads=threads)) as pair:
        texts = passages(text, pair.target.vocab)
        for done, tokens in enumerate(texts, 1):
            counters = Counters(drafted_at=total.drafted_at, accepted_at=total.accepted_at)
            generation = Generation(
                target=pair.target,
                drafter=pair.drafter,
                sampler=Greedy(),
                pacing=FixedPacing(_DRAFT),
                reader=Detokenizer(pair.target.vocab),
                counters=counters,
                max_tokens=_CONTINUED,
                cancelled=lambda: False,
            )
            deque(generation.run(tokens[:_PROMPT]), maxlen=0)
            # Each answer's first token comes from the prompt alone, not from a pass.
            total.completion_tokens += max(0, counters.completion_tokens - 1)
            total.target_passes += counters.target_passes
            progress(path, done, len(texts))
    stats = total.snapshot()
    return DrafterScore(path.name, quant, stats.acceptance_by_position, stats.tokens_per_pass)
