"""Several answers at once, in one context: drafts of all are verified in one pass.

Continuous batching (Yu et al. 2022, Orca): answers join and leave between passes. A pass reads the
weights once for all of its rows, so rows of other answers are as cheap as those of a draft, and use
up the same idle compute; pacing measures what is left of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from localmtp.engine.decoding.drafter import Drafting, MTPDrafter
from localmtp.engine.decoding.generate import Generation
from localmtp.engine.decoding.prefill import Prefill
from localmtp.engine.decoding.prompt_lookup import Lookup
from localmtp.engine.decoding.target import Target
from localmtp.engine.events import Event
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import Outcome, SharedPacing
from localmtp.engine.sampling.sampler import NO_DRAFT, Draft
from localmtp.errors import LocalmtpError
from localmtp.limits import MAX_DRAFT

_ALONE_S, _BESIDE_S = 0.5, 0.1
"""Seconds of a pass over prompts: alone, and at least while answers wait for their next tokens.
Where their rounds take longer, prompts get as long: many short waits are better than a batch that
fills up slowly."""

Happened = tuple[Generation, Event | LocalmtpError]
"""Of one answer: what came of it, or what ended it."""


class Batching:
    """Decodes answers together.

    Args:
        targets: the sequences of a context; each has one answer at a time.
        mtp: drafts for all; None without a drafter.
        pacing: of the answers, which get theirs from it or have fixed lengths.
    """

    def __init__(
        self, targets: Sequence[Target], mtp: MTPDrafter | None, pacing: SharedPacing
    ) -> None:
        self._targets = targets
        self._mtp = mtp
        self._pacing = pacing
        self._lookups = [Lookup(target) for target in targets]
        self._free = list(targets)
        """Those without an answer, the one that was used last at the end."""
        self._filling: dict[Generation, Prefill] = {}
        self._added: list[Happened] = []
        self._rate = 0.0  # of the last prefill pass, in rows per second
        self._round_s = 0.0  # of the last round
        self._running: list[Generation] = []

    @property
    def free(self) -> int:
        """How many answers can begin."""
        return len(self._free)

    @property
    def answers(self) -> int:
        """How many are in the making."""
        return len(self._filling) + len(self._running)

    @property
    def decoding(self) -> int:
        """How many of them get tokens; the prompts of the others are being read."""
        return len(self._running)

    def sequence_for(self, prompt: Sequence[int]) -> Target:
        """Take the free sequence that has most of a prompt, else the one that waited longest."""
        shared = [target.shared_with(prompt) for target in self._free]
        most = max(shared)
        # The first few tokens, BOS and the opening of a turn, are every prompt's.
        return self._free.pop(shared.index(most) if most > len(prompt) // 8 else 0)

    def add(self, generation: Generation, prompt: Sequence[int]) -> None:
        """Begin an answer, on a sequence from `sequence_for`."""
        prefill = Prefill(generation.target, prompt, self._targets)
        self._filling[generation] = prefill
        self._added.append((generation, generation.begin(prefill.total, prefill.reused)))

    def step(self) -> list[Happened]:
        """Parts of prompts, then a round of all answers that have begun.

        Returns:
            What happened, in order; after `Finished` or an error an answer has left.
        """
        happened, self._added = self._added + self._part_with_ended(), []
        if self._filling:
            happened += self._fill() + self._part_with_ended()
        if self._running:
            happened += self._round()
        return happened + self._part_with_ended()

    def give_up(self) -> list[Generation]:
        """Let all answers go, after a pass that failed.

        Returns:
            Those that were not complete.
        """
        given_up = [*self._running, *self._filling]
        self._running.clear()
        self._filling.clear()
        self._added.clear()
        self._free.extend(generation.target for generation in given_up)
        return given_up

    def _fill(self) -> list[Happened]:
        """A pass over parts of prompts, those that lack least first, so that none waits for long.

        A long prompt waits for short ones, not they for it.
        """
        seconds = max(_BESIDE_S, self._round_s) if self._running else _ALONE_S
        target, parts = self._targets[0], list[tuple[Generation, Prefill, Sequence[int]]]()
        rows = target.batch_for(seconds, self._rate)
        for generation, prefill in sorted(self._filling.items(), key=lambda one: one[1].lacking):
            if rows and len(parts) < target.most_rows:
                part = prefill.part(rows)
                parts.append((generation, prefill, part))
                rows -= len(part)
        began = perf_counter()
        logits = target.read_together([(prefill.target, part) for _, prefill, part in parts])
        self._rate = sum(len(part) for *_, part in parts) / (perf_counter() - began)
        happened: list[Happened] = []
        for row, (generation, prefill, part) in enumerate(parts):
            prefill.advance(len(part))
            happened.append((generation, generation.progress(prefill.done)))
            if not prefill.lacking:
                del self._filling[generation]
                happened.append(self._begun(generation, logits[row : row + 1]))
        return happened

    def _begun(self, generation: Generation, logits: Floats) -> Happened:
        """The first token, or what its choice failed for."""
        try:
            first = generation.first(logits)
        except LocalmtpError as error:
            return self._leave(generation, error)
        self._running.append(generation)
        return generation, first

    def _round(self) -> list[Happened]:
        """Draft for all, verify in one pass, keep of each what the target accepts."""
        running, pacing = self._running, self._pacing
        began = perf_counter()
        pacing.begin([generation.pacing for generation in running])
        drafts = self._draft()
        proposed = perf_counter()
        passes = [
            (generation.target, generation.last, draft.tokens)
            for generation, draft in zip(running, drafts, strict=True)
        ]
        logits = self._targets[0].verify_together(passes)
        verified = perf_counter()
        verdicts: list[tuple[int, int] | LocalmtpError] = []
        row = 0
        for generation, draft in zip(running, drafts, strict=True):
            rows = len(draft.tokens) + 1
            verdicts.append(_judge(generation, logits[row : row + rows], draft))
            row += rows
        judged = perf_counter()
        self._round_s = judged - began
        times = (proposed - began, verified - proposed, judged - verified)
        outcomes = [
            Outcome(generation.pacing, len(draft.tokens), draft.steps, verdict[0] + 1)
            for generation, draft, verdict in zip(running, drafts, verdicts, strict=True)
            if isinstance(verdict, tuple)
        ]
        happened = self._commit(drafts, verdicts, times)
        pacing.settle(outcomes, times[0], times[1] + times[2])
        return happened

    def _draft(self) -> list[Draft]:
        """A draft for each answer that runs."""
        running = self._running
        most = min(MAX_DRAFT, self._targets[0].most_rows // len(running) - 1)
        drafts: list[Draft] = []
        drafting: list[Drafting] = []
        for generation in running:
            generation.begin_round(most)
            draft, last = NO_DRAFT, generation.last
            sampler, pacing = generation.sampler, generation.pacing
            if self._mtp:
                lookup = self._lookups[generation.target.sequence]
                copied = lookup.copy(last, sampler, pacing)
                if copied is not None:
                    draft = copied
                elif pacing.go_on():
                    drafting.append(Drafting(generation.target, last, sampler, pacing))
                    draft = drafting[-1].draft
            drafts.append(draft)
        if self._mtp and drafting:
            self._mtp.propose_together(drafting)
        return drafts

    def _commit(
        self,
        drafts: Sequence[Draft],
        verdicts: Sequence[tuple[int, int] | LocalmtpError],
        times: tuple[float, float, float],
    ) -> list[Happened]:
        """Keep what was accepted, roll back the rest; all answers spent the same time."""
        draft_s, verify_s, sample_s = times
        happened: list[Happened] = []
        failed: list[Happened] = []
        row = 0
        for generation, draft, verdict in zip(self._running, drafts, verdicts, strict=True):
            if isinstance(verdict, LocalmtpError):
                failed.append(self._leave(generation, verdict))
            else:
                accepted, follower = verdict
                counters = generation.counters
                counters.draft_s += draft_s
                counters.verify_s += verify_s
                counters.sample_s += sample_s
                generation.pacing.settle(accepted, draft_s, verify_s + sample_s)
                generation.commit(draft, accepted, row)
                happened.append((generation, generation.say(draft, accepted, follower)))
            row += len(draft.tokens) + 1
        self._running = [generation for generation, _ in happened]
        return happened + failed

    def _part_with_ended(self) -> list[Happened]:
        ended = [one for one in (*self._running, *self._filling) if one.ended()]
        self._running = [one for one in self._running if one not in ended]
        self._filling = {one: prefill for one, prefill in self._filling.items() if one not in ended}
        return [self._leave(one, one.finish()) for one in ended]

    def _leave(self, generation: Generation, what: Event | LocalmtpError) -> Happened:
        """Free the answer's sequence; its tokens stay, for a prompt that begins alike."""
        self._free.append(generation.target)
        return generation, what


def _judge(generation: Generation, logits: Floats, draft: Draft) -> tuple[int, int] | LocalmtpError:
    """See `Sampler.judge`; what one answer demands must not end the others."""
    try:
        return generation.sampler.judge(logits, draft)
    except LocalmtpError as error:
        return error
