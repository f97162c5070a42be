"""Which answers have their tokens chosen on the device, and whether that is faster here.

The device returns the most probable token of a row with its probability, or the candidates that
top-k leaves: all that greedy decoding and p and q need. Answers that need other logits, for
penalties, grammars, thinking budgets, near-ties or without top-k, are chosen on the host, each by
itself, in the same passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.drafter import Drafter, DraftSlot
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.device_options import Switch
from localmtp.engine.drafters.prompt_lookup import NoDraftSteps
from localmtp.engine.llama import Context
from localmtp.engine.llama.device_rows import ArgmaxRows, CandidateRows, DeviceChain, attach
from localmtp.engine.pacing import FixedPolicy, RoundPlan
from localmtp.engine.sampling.distribution import NO_DRAFT
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler, make_device_sampler, make_sampler

_CANDIDATES = 64
"""Candidates for every top-k up to this: Gemma's default, so that most answers share a chain."""

_MOST_CANDIDATES = 256
"""Largest top-k that is chosen on the device: beyond it, whole rows are as cheap."""

_TRIALS, _UNMEASURED = 7, 2
"""Rounds that are tried, and how many of them first: those allocate graphs and compile kernels."""

_TOKEN = 0  # any
_DRAFT = 3
_PROMPT = 16

_GAIN = 0.98
"""Share of the host's time that the device may take at most, to be chosen."""


class DeviceRows(NamedTuple):
    """Results of a sequence's rows, instead of their logits."""

    target: Any
    """`ArgmaxRows` or `CandidateRows` of the target's last pass."""
    drafter: Any
    """The same of the drafter's last step; None without a drafter."""


NO_ROWS = DeviceRows(None, None)
"""For answers that the host chooses."""


class DeviceSampling:
    """Attaches samplers to the sequences of a target and its drafter.

    Args:
        target: of the sequences.
        drafter: None for no drafting.
        mode: `ON` for all answers that allow it; `AUTO` for the kinds that `measure` found faster.
    """

    def __init__(self, target: TargetContext, drafter: Drafter | None, mode: Switch) -> None:
        cache, drafts = target.cache, drafter.context if drafter else None
        self._suppressed: list[int] = target.vocab.suppressed.tolist()
        self._n_vocab = target.vocab.size
        self._kinds: set[bool] = {True, False} if mode is Switch.ON else set()
        """Kinds of answers that are chosen on the device: whether greedy."""
        self.measured = False
        """Whether this run measured which kinds are faster."""
        self._attached: dict[int, tuple[int, Sequence[DeviceChain]]] = {}
        """By sequence: the number of candidates, 0 for argmax, and a chain for each context."""
        self._contexts: list[Context] = [cache, drafts] if drafts else [cache]
        self._rows = [
            DeviceRows(kind(cache), kind(drafts) if drafts else None)
            for kind in (CandidateRows, ArgmaxRows)
        ]
        target.on_host_rows = self.detach

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of answers that are chosen on the device: `greedy`, `sampled`."""
        return tuple("greedy" if kind else "sampled" for kind in sorted(self._kinds, reverse=True))

    def start(self, sequence: int, request: GenerationRequest) -> tuple[DeviceRows, Sampler] | None:
        """Attaches what an answer needs, or detaches.

        Returns:
            Where its rows are found and its sampler; None if the host chooses.
        """
        sampling = request.sampling
        if sampling.greedy not in self._kinds or not _allowed(request):
            self.detach(sequence)
            return None
        return self._attach(sequence, sampling, len(request.prompt))

    def detach(self, sequence: int) -> None:
        """Lets the host choose for a sequence."""
        _, chains = self._attached.pop(sequence, (0, ()))
        if chains:
            for context in self._contexts:
                attach(context, sequence, None)
            for chain in chains:
                chain.close()

    def use(self, kinds: Sequence[str]) -> None:
        """Chooses the kinds that an earlier run measured to be faster."""
        self._kinds = {kind == "greedy" for kind in kinds}

    def measure(self, sequence: TargetSequence, drafter: Drafter | None) -> None:
        """Compares rounds with the host's choice and with the device's; takes some 30 rounds.

        They take fewer than 64 positions; libllama rounds contexts up to 256.

        Args:
            sequence: an empty one, emptied again.
            drafter: of the target.
        """
        self.measured = True
        prefill(sequence, [_TOKEN] * _PROMPT)
        if drafter:
            drafter.prefilled(sequence, 0)
        for sampling in (SamplingParams(temperature=0.0), SamplingParams()):
            host = _round_s(sequence, drafter, make_sampler(sampling), None)
            found = self._attach(sequence.index, sampling, 0)
            if found is None:
                continue
            rows, sampler = found
            if _round_s(sequence, drafter, sampler, rows) <= _GAIN * host:
                self._kinds.add(sampling.greedy)
            self.detach(sequence.index)
        sequence.clear()

    def _attach(
        self, sequence: int, sampling: SamplingParams, position: int
    ) -> tuple[DeviceRows, Sampler] | None:
        top_k = 0 if sampling.greedy else max(_CANDIDATES, sampling.top_k)
        attached, chains = self._attached.get(sequence, (0, ()))
        if not chains or attached != top_k:
            self.detach(sequence)
            chains = [self._chain(context, top_k) for context in self._contexts]
            accepted = [
                attach(context, sequence, chain)
                for context, chain in zip(self._contexts, chains, strict=True)
            ]
            self._attached[sequence] = top_k, chains
            if not all(accepted):
                self.detach(sequence)
                return None
        return self._rows[sampling.greedy], make_device_sampler(sampling, position)

    def _chain(self, context: Context, top_k: int) -> DeviceChain:
        """Returns a chain for a context, whose vocabulary may not be that of the target."""
        size = context.model.vocab.size
        never = [token for token in self._suppressed if token < size]
        # libllama aborts on more candidates than there are tokens.
        return DeviceChain(min(top_k, size), [*never, *range(self._n_vocab, size)])


def open_device_sampling(
    target: TargetContext,
    sequence: TargetSequence,
    drafter: Drafter | None,
    mode: Switch,
    known: Sequence[str] | None = None,
) -> DeviceSampling | None:
    """Returns device sampling for a loaded pair, measured where it may pay; None if it is off.

    Args:
        target: of the sequences.
        sequence: an empty sequence.
        drafter: None for no drafting.
        mode: `AUTO` is off where the CPU computes the logits.
        known: kinds that an earlier run measured to be faster; None to measure.
    """
    if mode is Switch.OFF:
        return None
    if drafter and drafter.context is None and not isinstance(drafter, NoDraftSteps):
        return None  # rows on the device are those of one context
    on_device = target.model.offload.devices
    if mode is Switch.AUTO and not on_device:
        return None
    found = DeviceSampling(target, drafter, mode)
    if mode is Switch.AUTO and known is not None:
        found.use(known)
    elif mode is Switch.AUTO:
        found.measure(sequence, drafter)
    return found


def _allowed(request: GenerationRequest) -> bool:
    """Reports whether candidates are all that an answer needs."""
    sampling = request.sampling
    needs_logits = (
        request.sampler
        or request.trace
        or request.think_budget is not None
        or sampling.penalizes
        or sampling.dries
    )
    return not needs_logits and (sampling.greedy or 0 < sampling.top_k <= _MOST_CANDIDATES)


def _round_s(
    sequence: TargetSequence, drafter: Drafter | None, sampler: Sampler, rows: DeviceRows | None
) -> float:
    """Returns the median seconds of a round of three drafts; all are rolled back."""
    context = sequence.context
    slot = DraftSlot(sequence, sampler, FixedPolicy(_DRAFT), _TOKEN)
    slot.rows = rows and rows.drafter
    plan, seconds = RoundPlan(), []
    for _ in range(_TRIALS):
        slot.draft = NO_DRAFT
        slot.policy.begin_round(min(_DRAFT, context.max_draft), plan)
        began = perf_counter()
        if drafter:
            drafter.propose([slot])
        tokens = (slot.pending, *slot.draft.tokens)
        drafted = perf_counter() - began
        if context.replays and slot.draft.tokens:
            sequence.guard()
        began = perf_counter()
        logits = context.verify([(sequence.index, sequence.position, tokens)])
        sampler.accept(rows.target[0 : len(tokens)] if rows else logits, slot.draft)
        seconds.append(drafted + perf_counter() - began)
        sequence.commit(slot.pending, (), len(slot.draft.tokens))
        if drafter:
            drafter.committed(slot, 0)
        context.replay()
    return median(seconds[_UNMEASURED:])
