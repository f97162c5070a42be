"""The decode loop: draft, verify, accept, roll back, for any number of answers.

Continuous batching (Orca, Yu et al. 2022): answers join and leave between passes. A pass reads the
weights once for all of its rows. Rows of other answers and rows of drafts compete for the same idle
compute; pacing measures how much is left. A single answer is a batch of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

from localmtp.engine.decoding.context import Part, TargetContext
from localmtp.engine.decoding.device_sampling import NO_ROWS, DeviceSampling
from localmtp.engine.decoding.drafter import Drafter, DraftSlot
from localmtp.engine.decoding.generation import Generation, GenerationRequest
from localmtp.engine.decoding.prefill import PASS_S, Prefill, Prefiller
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.sequence_pool import SequencePool
from localmtp.engine.decoding.state import SequenceState
from localmtp.engine.events import Channel, Event, Finished
from localmtp.engine.llama import Floats
from localmtp.engine.pacing import CostModel, DraftPolicy, FixedPolicy, Outcome, PacingState
from localmtp.engine.sampling.sampler import Sampler, make_sampler
from localmtp.engine.sampling.thought_limit import ThoughtLimitSampler
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import detokenizer, thought_markers
from localmtp.engine.weight_reads import WeightReads
from localmtp.errors import LocalmtpError

_WAIT_S = 0.1
"""Seconds of a prefill pass while other answers decode, or as long as their rounds take if that is
more: many short waits are better than a batch that fills up slowly."""

StepOutput = tuple[Generation, Event | LocalmtpError]
"""An answer, and an event of it or the error that ended it."""


class DecodeLoop:
    """Decodes answers on the sequences of one target. One thread at a time.

    Args:
        context: of the target.
        sequences: of the context; each holds one answer at a time.
        drafter: drafts for all of them; None for no drafting.
        no_drafter: reason why there is none.
        copies_only: whether the drafter takes no draft steps: it copies from the context.
        load_s: seconds that loading took, for statistics.
        pacing: of an earlier run.
        device: chooses tokens on the device; None: the host chooses all.
        reads: what passes read of the weights, for statistics; None if unknown.
        max_cached: see `SequencePool`.
    """

    def __init__(
        self,
        context: TargetContext,
        sequences: Sequence[TargetSequence],
        drafter: Drafter | None,
        *,
        no_drafter: str = "",
        copies_only: bool = False,
        load_s: float = 0.0,
        pacing: PacingState | None = None,
        device: DeviceSampling | None = None,
        reads: WeightReads | None = None,
        max_cached: int = 0,
    ) -> None:
        self.context = context
        pacing = pacing or PacingState()
        self._calibrations = pacing.calibrations
        self._drafter = drafter
        self._no_drafter = no_drafter
        self._copies_only = copies_only
        for calibration in self._calibrations.values():
            calibration.copies_only = copies_only
        self._device = device
        self._load_s = load_s
        self._reads = reads
        self._costs = CostModel(pacing.costs, compiles=bool(context.model.offload.devices))
        context.threads.follow(self._costs.set_threads)
        self._prefiller = Prefiller(context)
        self._pool = SequencePool(sequences, drafter, max_cached)
        self._prefilling: dict[Generation, Prefill] = {}
        self._running: list[Generation] = []
        self._started: list[StepOutput] = []
        self._automatic = 0  # running answers with automatic pacing
        self._round_s = 0.0  # of the last round

    @property
    def free(self) -> int:
        """Number of answers that can start."""
        return self._pool.free

    @property
    def active(self) -> int:
        """Number of answers in progress."""
        return len(self._prefilling) + len(self._running)

    @property
    def decoding(self) -> int:
        """Number of answers past their prompts."""
        return len(self._running)

    @property
    def plain_tokens_per_s(self) -> float:
        """Tokens per second of one answer without drafting, as measured; 0 before that."""
        return self._costs.plain_tokens_per_s

    @property
    def pacing(self) -> PacingState:
        """Current pacing data, for the next run."""
        return PacingState(self._calibrations, self._costs.dump())

    def drafting_state(self, n_draft: int | None, *, greedy: bool) -> str:
        """`on`, or `off: REASON`, for answers with this draft length and way of sampling."""
        return self._policy(n_draft, greedy=greedy).state

    def new_counters(self) -> Counters:
        """Counters of an answer that starts now."""
        threads = self.context.threads
        return Counters(
            load_s=self._load_s,
            context_size=self.context.n_ctx,
            threads=threads.count,
            most_threads=threads.most,
            reads=self._reads,
        )

    def run(self, request: GenerationRequest) -> Iterator[Event]:
        """Generates one answer on its own.

        Yields:
            `Prefilled` after each prefill pass, `Generated` after each round, `Finished` once.

        Raises:
            LocalmtpError: a decode failed, or the sampler could not choose.
        """
        generation = self.start(request)
        try:
            output: Event | LocalmtpError | None = None
            while not isinstance(output, Finished):
                for _, output in self.step():
                    if isinstance(output, LocalmtpError):
                        raise output
                    yield output
        finally:
            if generation in self._running or generation in self._prefilling:
                self.cancel_all()

    def start(self, request: GenerationRequest) -> Generation:
        """Starts an answer on the free sequence that holds most of its prompt.

        Requires `free`. Nothing is decoded before the next `step`.

        Raises:
            LocalmtpError: the prompt has no tokens.
        """
        if not request.prompt:
            raise LocalmtpError(
                "the prompt has no tokens", hint="the model's vocabulary has none for this text"
            )
        greedy = request.sampling.greedy
        sampler = request.sampler or make_sampler(
            request.sampling, request.prompt, self.context.vocab.piece
        )
        limit = self._thought_limit(sampler, request)
        sampler = limit or sampler
        policy = request.policy or self._policy(request.n_draft, greedy=greedy)
        if request.trace:
            sampler, policy = request.trace.watch(sampler, policy)
        sequence = self._pool.take(request.prompt)  # last: what raises must not lose a sequence
        sequence.drafts = policy.automatic or policy.state == "on"
        on_device = self._device and self._device.start(sequence.index, request)
        if not on_device:
            self.context.on_host_rows(sequence.index)  # of an earlier loop
        rows, sampler = on_device or (NO_ROWS, sampler)
        if request.around:
            sampler = request.around(sampler)
        slot = DraftSlot(sequence, sampler, policy, rows=rows.drafter)
        counters = request.counters or self.new_counters()
        context = self.context
        reader = detokenizer(
            context.vocab, context.markup, request.channel, tool_calls=request.tool_calls
        )
        generation = Generation(slot, reader, counters, request, limit, rows.target)
        prefill = Prefill(sequence, request.prompt, self._pool.all, request.media)
        counters.prompt_tokens, counters.reused_tokens = prefill.total, prefill.reused
        counters.media, counters.media_tokens = len(request.media), prefill.media_rows
        self._prefilling[generation] = prefill
        self._started.append((generation, generation.prefilled(prefill.reused)))
        return generation

    def longest_prefix(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt that need not be prefilled."""
        return self._pool.longest_prefix(prompt)

    def state(self, sequence: TargetSequence) -> SequenceState | None:
        """Returns a copy of the state of a sequence without an answer; see `SequencePool.state`."""
        return self._pool.state(sequence)

    def load(self, state: SequenceState) -> bool:
        """Loads a state into a free sequence; see `SequencePool.load`."""
        return self._pool.load(state)

    def step(self) -> list[StepOutput]:
        """Runs a prefill pass, if prompts wait, and a round of all answers past their prompts.

        Returns:
            Events in order. After `Finished` or an error an answer has left the loop. Answers that
            started since the last step are reported first, before anything is decoded.

        Raises:
            LocalmtpError: a decode failed; call `cancel_all`.
        """
        outputs, self._started = self._started, []
        ended = False
        for one in (*self._running, *self._prefilling):
            ended |= one.check_cancelled()
        if ended:
            outputs += self._retire()
        if outputs:
            return outputs
        self._pool.count_pass()
        if self._prefilling:
            outputs = self._prefill_passes()
        if self._running:
            outputs += self._round()
        for one in self._running:
            if one.reason is not None:
                return outputs + self._retire()
        return outputs

    def cancel_all(self) -> list[Generation]:
        """Drops all answers, for example after a failed decode.

        Returns:
            The answers that had not finished.
        """
        dropped = [*self._running, *self._prefilling]
        self._set_running([])
        self._prefilling.clear()
        self._started.clear()
        for generation in dropped:
            self._pool.add(generation.sequence)
        return dropped

    def _thought_limit(
        self, sampler: Sampler, request: GenerationRequest
    ) -> ThoughtLimitSampler | None:
        markers = None
        if request.think_budget is not None:
            markers = thought_markers(self.context.vocab, self.context.markup)
        if markers is None or request.think_budget is None:
            return None
        in_thought = request.channel is Channel.THOUGHT
        return ThoughtLimitSampler(
            sampler, markers, request.think_budget, request.prompt, in_thought=in_thought
        )

    def _policy(self, n_draft: int | None, *, greedy: bool) -> DraftPolicy:
        if self._drafter is None:
            return FixedPolicy(0, self._no_drafter or "no drafter")
        if n_draft is not None:
            return FixedPolicy(n_draft, copies=self._copies_only)
        return self._costs.policy(self._calibrations[greedy])

    def _prefill_passes(self) -> list[StepOutput]:
        """Runs a prefill pass, or several short ones in the time of a long one."""
        seconds = max(_WAIT_S, self._round_s) if self._running else PASS_S
        ends = perf_counter() + seconds
        outputs = self._prefill(seconds)
        while self._prefilling and self._prefiller.short and perf_counter() < ends:
            outputs += self._prefill(seconds)
        return outputs

    def _prefill(self, seconds: float) -> list[StepOutput]:
        owners = {prefill: generation for generation, prefill in self._prefilling.items()}
        begins = {prefill: prefill.done for prefill in owners}
        outputs: list[StepOutput] = []
        self._costs.interrupt()
        for row, (prefill, logits) in enumerate(self._prefiller.step(owners, seconds)):
            generation = owners[prefill]
            if self._drafter:
                self._drafter.prefilled(prefill.sequence, begins[prefill])
            generation.counters.count_encoded(prefill.encoded, prefill.encode_s)
            outputs.append((generation, generation.prefilled(prefill.done)))
            if not prefill.remaining:
                del self._prefilling[generation]
                rows = generation.rows
                found = logits if rows is None else rows[row : row + 1]
                outputs += self._choose_first(generation, found)
        for prefill, generation in owners.items():
            if prefill.error:
                del self._prefilling[generation]
                outputs.append(self._leave(generation, prefill.error))
        return outputs

    def _choose_first(self, generation: Generation, logits: Floats) -> list[StepOutput]:
        try:
            first = generation.choose_first(logits)
        except LocalmtpError as error:
            return [self._leave(generation, error)]
        if generation.reason is not None:
            return [(generation, first), self._leave(generation, generation.finish())]
        self._set_running([*self._running, generation])
        return [(generation, first)]

    def _round(self) -> list[StepOutput]:
        """Drafts for all answers, verifies in one pass, and commits what is accepted of each."""
        running, drafter = self._running, self._drafter
        began = perf_counter()
        plan = self._costs.begin_round(len(running), automatic=self._automatic > 0)
        most = min(self.context.max_draft, self.context.max_verify_rows // len(running) - 1)
        slots = [one.begin_round(most, plan) for one in running]
        if drafter:
            drafter.propose(slots)
        proposed = perf_counter()
        parts: list[Part] = []
        for slot in slots:
            sequence = slot.sequence
            tokens = (slot.pending, *slot.draft.tokens)
            if slot.guard and slot.draft.tokens:
                sequence.guard()
            parts.append((sequence.index, sequence.position, tokens))
        logits = self.context.verify(parts)
        verified = perf_counter()
        row = 0
        for one in running:
            row = one.accept(logits if one.rows is None else one.rows, row)
        accepted_at = perf_counter()
        self._round_s = accepted_at - began
        # Acceptance is part of the cost of a row.
        draft_s, verify_s, sample_s = proposed - began, verified - proposed, accepted_at - verified
        row, failed = 0, False
        for one, slot in zip(running, slots, strict=True):
            if one.error is not None:
                failed = True
            else:
                one.counters.add_times(draft_s, verify_s, sample_s)
                slot.policy.end_round(one.accepted, draft_s, verify_s + sample_s)
                one.commit(row)
                if drafter:
                    drafter.committed(slot, one.accepted)
            row += len(slot.draft.tokens) + 1
        self.context.replay()
        if self._automatic:
            self._costs.end_round(
                plan,
                map(_outcome, running),
                draft_s,
                verify_s + sample_s,
                drafted=row > len(slots),
            )
        outputs = self._drop_failed() if failed else []
        for one in self._running:
            outputs.append((one, one.emit()))
        return outputs

    def _drop_failed(self) -> list[StepOutput]:
        """Removes the answers whose sampler could not choose a token."""
        failed = [one for one in self._running if one.error is not None]
        self._set_running([one for one in self._running if one.error is None])
        return [self._leave(one, one.error) for one in failed if one.error]

    def _retire(self) -> list[StepOutput]:
        """Removes the answers that have ended."""
        ended = [one for one in (*self._running, *self._prefilling) if one.reason is not None]
        self._set_running([one for one in self._running if one.reason is None])
        for one in ended:
            self._prefilling.pop(one, None)
        return [self._leave(one, one.finish()) for one in ended]

    def _leave(self, generation: Generation, output: Event | LocalmtpError) -> StepOutput:
        """Frees the sequence; its tokens stay in the cache, for prompts with the same prefix."""
        self._pool.add(generation.sequence)
        return generation, output

    def _set_running(self, running: list[Generation]) -> None:
        self._running = running
        self._automatic = sum(one.slot.policy.automatic for one in running)


def _outcome(generation: Generation) -> Outcome:
    slot = generation.slot
    tokens = 0 if generation.error else generation.accepted + 1
    return Outcome(slot.policy, len(slot.draft.tokens), slot.draft.steps, tokens)
