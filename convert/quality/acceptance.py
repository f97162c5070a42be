"""Acceptance rate of a drafter on its target, continuing passages of a text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from localmtp.convert.quality.divergence import passages
from localmtp.convert.quality.report import DrafterScore
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Counters

_PROMPT = 256
"""Tokens of each passage that form the prompt."""

_GENERATED = 64
"""Tokens generated after each prompt."""

_CONTEXT = 512
"""Context length in tokens."""

_DRAFT = 6
"""Draft length: Google's setting for the smaller drafters, longer than pays on most machines."""


def score_drafter(
    file: tuple[Path, str],
    target: Path,
    text: str,
    threads: int,
    progress: Callable[[Path, int, int], None],
) -> DrafterScore:
    """Measure acceptance by continuing every passage, greedily and with a fixed draft length.

    Args:
        file: the drafter and its quantization.
        target: its target; the same file for its MTP head.
        text: text whose passages begin the prompts.
        threads: number of compute threads.
        progress: called with the file, passages done, and total passages.

    Raises:
        LocalmtpError: the text is too short, or the pair cannot be run.
    """
    path, quant = file
    total = Counters()
    with Pair.load(target, path, LoadOptions(context=_CONTEXT, threads=threads)) as pair:
        loop, texts = pair.decode_loop(), passages(text, pair.target.vocab)
        for done, tokens in enumerate(texts, 1):
            counters = Counters(drafted_at=total.drafted_at, accepted_at=total.accepted_at)
            request = GenerationRequest(
                tokens[:_PROMPT],
                SamplingParams(temperature=0.0),
                n_draft=_DRAFT,
                max_tokens=_GENERATED,
                counters=counters,
            )
            deque(loop.run(request), maxlen=0)
            total.target_passes += counters.target_passes
            progress(path, done, len(texts))
    stats = total.snapshot()
    # Answers may be short; this counts the accepted tokens that end them too.
    per_pass = 1 + stats.accepted / max(1, stats.target_passes)
    return DrafterScore(path.name, quant, stats.acceptance_by_position, per_pass)
