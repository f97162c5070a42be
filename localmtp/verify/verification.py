"""All checks on one pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler, make_sampler
from localmtp.models import ModelFiles
from localmtp.session import Choices, Message, Role
from localmtp.session.local import LocalSession
from localmtp.verify.greedy import GreedyAnswers, check_greedy
from localmtp.verify.passes import Passes, check_passes
from localmtp.verify.sampled import SampledAnswers, SamplingPlan, check_sampled

_FED_AGAIN = 8
"""Answers for the check of passes: some hundreds of positions."""


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """What is to be verified, and how thoroughly."""

    prompts: Sequence[str]
    lengths: Sequence[int | None]
    """Draft lengths to hold against no drafting; None is automatic pacing."""
    sampling: SamplingParams
    """Of the sampled answers; with a temperature above 0."""
    max_tokens: int
    tosses: float = 400.0
    """Fair coin tosses that the sampled answers are to be worth; see `SampledAnswers`."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found."""

    passes: Passes
    greedy: GreedyAnswers
    sampled: SampledAnswers

    @property
    def passed(self) -> bool:
        """Whether drafting left the output unchanged."""
        return self.passes.passed and self.greedy.passed(self.passes.bound) and self.sampled.passed

    @property
    def undecided(self) -> bool:
        """Whether all that is missing is enough sampled tokens; nothing speaks against it then."""
        rest = self.passes.passed and self.greedy.passed(self.passes.bound)
        return rest and self.sampled.undecided


def verify(
    pair: Pair,
    files: ModelFiles,
    plan: VerifyPlan,
    make: Callable[[SamplingParams], Sampler] = make_sampler,
) -> Verification:
    """Hold drafting against no drafting.

    Args:
        pair: loaded, with a drafter; stays the caller's to close.
        files: where it came from.
        plan: what to verify.
        make: what samplers are made with; the session's own.

    Raises:
        LocalmtpError: the model has no chat template, or a prompt does not fit its context.
    """
    prompts = [_prompt(pair, files, text) for text in plan.prompts]
    greedy = check_greedy(
        pair, prompts, plan.lengths, plan.max_tokens, make(replace(plan.sampling, temperature=0))
    )
    texts = sorted(zip(prompts, greedy.plain, strict=True), key=lambda text: -len(text[1]))
    passes = check_passes(pair, texts[:_FED_AGAIN])
    sampling = SamplingPlan(plan.sampling, plan.lengths, plan.max_tokens, plan.tosses)
    return Verification(passes, greedy, check_sampled(pair, prompts, sampling, make))


def _prompt(pair: Pair, files: ModelFiles, text: str) -> list[int]:
    session = LocalSession(pair, files, Choices())
    session.messages.append(Message(Role.USER, text))
    vocab = pair.target.vocab
    tokens = vocab.tokenize(session.prompt(), special=True)
    return tokens if tokens[:1] == [vocab.bos] else [vocab.bos, *tokens]
