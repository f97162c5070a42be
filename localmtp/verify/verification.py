"""Runs all checks on a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler, make_sampler
from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.media import Media
from localmtp.models import ModelFiles
from localmtp.session import Message, Role, Settings, render
from localmtp.session.prompts import TokenPrompt, chat_template, media_prompt
from localmtp.verify.greedy import GreedyCheck, check_greedy
from localmtp.verify.passes import PassCheck, check_passes
from localmtp.verify.sampled import SampledCheck, SamplingPlan, check_sampled
from localmtp.verify.seeded import SeededCheck, check_seeded
from localmtp.verify.time_limit import Progress, Stage, TimeLimit

_PASS_CHECK_ANSWERS = 8
"""Answers for the check of passes: a few hundred positions."""

_SHARES = {"greedy": 3.0, "passes": 2.0, "seeded": 3.0, "sampled": 4.0}
"""Division of the time. The sampled check is last: it needs the most tokens, stops when it has
enough, and gets what the others leave."""


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """Prompts, draft lengths and amount of evidence."""

    prompts: Sequence[str]
    lengths: Sequence[int | None]
    """Draft lengths to compare with no drafting; None is automatic pacing."""
    sampling: SamplingParams
    """Sampling of the sampled answers; its temperature is above 0."""
    max_tokens: int
    tosses: float = 400.0
    """Weight of the sampled answers, in fair coin tosses; see `SampledCheck`."""
    media: Sequence[Media] = ()
    """Images and sounds that precede every prompt."""
    limit_s: float = inf
    """Seconds for all checks; each completes at least one prompt."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Results of all checks."""

    passes: PassCheck
    greedy: GreedyCheck
    sampled: SampledCheck
    seeded: SeededCheck
    stages: Sequence[Stage] = ()
    """Progress of each check when it ended."""

    @property
    def passed(self) -> bool:
        """Whether drafting left the output unchanged."""
        return self._token_by_token and self.sampled.passed and not self.interrupted

    @property
    def undecided(self) -> bool:
        """Whether all checks passed as far as they went, and more answers are needed."""
        sampled = self.sampled
        unfinished = sampled.undecided or (self.interrupted and sampled.passed)
        return self._token_by_token and unfinished

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the checks; they have the results until then."""
        return any(stage.interrupted for stage in self.stages)

    @property
    def _token_by_token(self) -> bool:
        bound = self.passes.bound
        return self.passes.passed and self.greedy.passed(bound) and self.seeded.passed(bound)


def verify(
    pair: Pair,
    files: ModelFiles,
    plan: VerifyPlan,
    make: Callable[[SamplingParams], Sampler] = make_sampler,
    report: Callable[[Progress], object] = lambda _: None,
) -> Verification:
    """Compare drafting with no drafting.

    Args:
        pair: loaded, with a drafter; the caller closes it.
        files: the pair's files.
        plan: what to verify.
        make: factory of samplers; the session's by default.
        report: called as the checks proceed.

    Returns:
        The results; those until then on Ctrl-C.

    Raises:
        LocalmtpError: the model has no chat template, or a prompt does not fit its context.
    """
    template = chat_template(pair)
    found = [_prompt(pair, template, files.name, text, plan.media) for text in plan.prompts]
    prompts, media = [prompt.tokens for prompt in found], found[0].media
    time = TimeLimit(plan.limit_s, _SHARES, report)
    greedy = check_greedy(
        pair,
        prompts,
        plan.lengths,
        plan.max_tokens,
        make(replace(plan.sampling, temperature=0)),
        media=media,
        stage=time.next(),
    )
    texts = sorted(zip(prompts, greedy.plain, strict=False), key=lambda text: -len(text[1]))
    passes = check_passes(pair, texts[:_PASS_CHECK_ANSWERS], media, time.next())
    seeded = check_seeded(
        pair,
        prompts,
        plan.lengths,
        plan.max_tokens,
        plan.sampling,
        media=media,
        stage=time.next(),
    )
    sampling = SamplingPlan(plan.sampling, plan.lengths, plan.max_tokens, plan.tosses)
    sampled = check_sampled(pair, prompts, sampling, make, media=media, stage=time.next())
    return Verification(passes, greedy, sampled, seeded, time.stages)


def _prompt(
    pair: Pair, template: ChatTemplate | None, name: str, text: str, media: Sequence[Media]
) -> TokenPrompt:
    message = Message(Role.USER, text, media=tuple(media))
    return media_prompt(pair, render(template, name, [message], Settings()), media)
