"""Draft counters on the Prometheus pages of servers.

vLLM and llama.cpp (with `--metrics`) use the same names: `PREFIX:spec_decode_num_drafts_total`,
`…_num_draft_tokens_total` and `…_num_accepted_tokens_per_pos_total{position="0"}`. The
counters cover all clients: a difference belongs to one answer only if it contains exactly that
answer's number of generated tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAMPLE = re.compile(
    r"^(\w+):(\w+?)(?:\{(.*)\})? (\d+(?:\.\d*)?(?:[eE][+-]?\d{1,2})?)(?:\s|$)", re.MULTILINE
)
_POSITION = re.compile(r'position="(\d{1,2})"')
_GENERATED = ("generation_tokens_total", "tokens_predicted_total")
"""Names used by vLLM and llama.cpp."""


@dataclass(frozen=True, slots=True)
class DraftCounts:
    """Counters since the server started, or their difference over one answer."""

    generated: int
    """Tokens of all answers."""
    drafts: int
    drafted: int
    """Tokens of all drafts."""
    accepted_at: tuple[int, ...]
    """[i]: tokens accepted at position i + 1."""

    @property
    def drafted_at(self) -> tuple[int, ...]:
        """[i]: tokens drafted at position i + 1, assuming drafts of about equal length."""
        positions = range(len(self.accepted_at))
        return tuple(max(0, min(self.drafts, self.drafted - i * self.drafts)) for i in positions)

    def __sub__(self, before: DraftCounts) -> DraftCounts:
        earlier = before.accepted_at + (0,) * len(self.accepted_at)
        return DraftCounts(
            self.generated - before.generated,
            self.drafts - before.drafts,
            self.drafted - before.drafted,
            tuple(now - then for now, then in zip(self.accepted_at, earlier, strict=False)),
        )


def draft_counts(page: str) -> DraftCounts | None:
    """Parse a page in Prometheus' text format; None if it has no draft counters.

    Sums over the engines of one server (vLLM's data parallelism).
    """
    sums: dict[str, int] = {}
    accepted_at: dict[int, int] = {}
    for _, name, labels, value in _SAMPLE.findall(page):
        amount = int(float(value))
        if name == "spec_decode_num_accepted_tokens_per_pos_total":
            if found := _POSITION.search(labels):
                position = int(found[1])
                accepted_at[position] = accepted_at.get(position, 0) + amount
        else:
            sums[name] = sums.get(name, 0) + amount
    if "spec_decode_num_drafts_total" not in sums:
        return None
    return DraftCounts(
        generated=sum(sums.get(name, 0) for name in _GENERATED),
        drafts=sums["spec_decode_num_drafts_total"],
        drafted=sums.get("spec_decode_num_draft_tokens_total", 0),
        accepted_at=tuple(accepted_at.get(i, 0) for i in range(max(accepted_at, default=-1) + 1)),
    )
