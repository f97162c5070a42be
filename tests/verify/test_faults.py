"""A sound pair passes; each planted fault is found by its check."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from localmtp.engine.decoding.context import TargetContext
from localmtp.engine.decoding.drafter import Drafter, MTPDrafter
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.llama import Model
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Greedy, Sampler, make_sampler
from localmtp.engine.threads import Threads
from localmtp.models import resolve
from localmtp.verify.greedy import check_greedy
from localmtp.verify.passes import PassCheck, check_passes
from localmtp.verify.sampled import SampledCheck, SamplingPlan, check_sampled, uniformity
from tests.verify.faulty import (
    AcceptsByTargetAlone,
    Cold,
    DeafDrafter,
    FirstHiddenRow,
    GreedyOneRowOff,
    Gullible,
    GullibleGreedy,
    KeepsOneRejected,
    NeverRollsBack,
    NoisyTwin,
    NoResidual,
    StaleHiddenRow,
)

FILES = resolve("nano")
PROMPTS = ("Tell me a story about a fox.", "Tell me about the sun.", "Tell me a long story.")
HOT = SamplingParams(temperature=3.0, top_k=20, seed=7)
"""Hot enough that target and drafter disagree."""


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(FILES.target) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def drafter_model(model: Model) -> Iterator[Model]:
    assert FILES.drafter is not None
    with Model(FILES.drafter) as loaded:
        yield loaded


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as resources:
        yield resources


def target_of(stack: ExitStack, model: Model) -> TargetContext:
    target = TargetContext(model, n_ctx=512, threads=Threads(1), full_window=False)
    stack.callback(target.close)
    return target


def pair_of(
    target: TargetContext,
    drafter: Drafter | None,
    kind: type[TargetSequence] = TargetSequence,
) -> Pair:
    return Pair(target, [kind(target, 0)], drafter, ExitStack())


def drafting_twin(
    stack: ExitStack, model: Model, kind: type[TargetSequence] = TargetSequence
) -> Pair:
    twin = NoisyTwin(TargetSequence(target_of(stack, model), 0))
    return pair_of(target_of(stack, model), twin, kind)


def prompts(model: Model) -> list[list[int]]:
    texts = (f"<|turn>user\n{prompt}<turn|>\n<|turn>model\n" for prompt in PROMPTS)
    return [[model.vocab.bos, *model.vocab.tokenize(text, special=True)] for text in texts]


def passes_of(stack: ExitStack, model: Model, pair: Pair) -> PassCheck:
    plain = pair_of(target_of(stack, model), None)
    answers = check_greedy(plain, prompts(model), [], 48, Greedy()).plain
    texts = list(zip(prompts(model), answers, strict=True))
    return check_passes(pair, texts)


def sampled_of(
    stack: ExitStack, model: Model, make: Callable[[SamplingParams], Sampler]
) -> SampledCheck:
    plan = SamplingPlan(HOT, [3], max_tokens=64, tosses=300)
    return check_sampled(drafting_twin(stack, model), prompts(model), plan, make)


def test_a_sound_pair_passes_every_check(
    stack: ExitStack, model: Model, drafter_model: Model
) -> None:
    target = target_of(stack, model)
    drafter = MTPDrafter(drafter_model, target)
    stack.callback(drafter.close)
    passes = passes_of(stack, model, pair_of(target, drafter))
    assert passes.passed, passes
    assert passes.rejections > 10
    twin = drafting_twin(stack, model)
    greedy = check_greedy(twin, prompts(model), [None, 3], 48, Greedy())
    assert greedy.compared == 2 * len(PROMPTS)
    assert greedy.passed(passes.bound), greedy.differences
    assert isinstance(twin.drafter, NoisyTwin)
    assert twin.drafter.reported and not twin.drafter.misled


def test_sound_sampling_passes(stack: ExitStack, model: Model) -> None:
    found = sampled_of(stack, model, make_sampler)
    assert found.passed, found
    assert 0.0 < found.acceptance_if_equal < 1.0
    assert 0.0 < found.acceptance < 1.0


@pytest.mark.parametrize("sampler", [GullibleGreedy, GreedyOneRowOff])
def test_a_broken_greedy_acceptance_rule_is_found(
    stack: ExitStack, model: Model, sampler: type[Greedy]
) -> None:
    sound = drafting_twin(stack, model)
    bound = passes_of(stack, model, sound).bound
    greedy = check_greedy(sound, prompts(model), [3], 48, sampler())
    assert greedy.differences
    assert not greedy.passed(bound)


@pytest.mark.parametrize("make", [Gullible, AcceptsByTargetAlone, NoResidual])
def test_a_broken_sampling_rule_is_found(
    stack: ExitStack, model: Model, make: Callable[[SamplingParams], Sampler]
) -> None:
    found = sampled_of(stack, model, make)
    assert found.enough
    assert found.leaning_p < 0.0005
    assert not found.passed


def test_a_wrong_temperature_is_found(stack: ExitStack, model: Model) -> None:
    found = sampled_of(stack, model, Cold)
    assert found.shape_p < 0.0005
    assert not found.passed


@pytest.mark.parametrize("kind", [NeverRollsBack, KeepsOneRejected])
def test_a_broken_rollback_is_found(
    stack: ExitStack, model: Model, kind: type[TargetSequence]
) -> None:
    passes = passes_of(stack, model, pair_of(target_of(stack, model), None, kind))
    assert passes.after_rejection > passes.bound
    assert not passes.passed
    pair = drafting_twin(stack, model, kind)
    assert not check_greedy(pair, prompts(model), [3], 48, Greedy()).passed(passes.bound)


@pytest.mark.parametrize("kind", [FirstHiddenRow, StaleHiddenRow])
def test_a_wrong_hidden_state_is_found(
    stack: ExitStack, model: Model, kind: type[TargetSequence]
) -> None:
    passes = passes_of(stack, model, pair_of(target_of(stack, model), None, kind))
    assert passes.after_rejection <= passes.bound
    assert not passes.passed


def test_a_drafter_that_ignores_the_hidden_state_is_found(
    stack: ExitStack, model: Model, drafter_model: Model
) -> None:
    target = target_of(stack, model)
    drafter = DeafDrafter(drafter_model, target)
    stack.callback(drafter.close)
    passes = passes_of(stack, model, pair_of(target, drafter))
    assert not passes.drafter_listens
    assert not passes.passed


def test_uniform_numbers_pass_and_skewed_ones_fail() -> None:
    random = np.random.default_rng(0)
    even = [uniformity(random.random(500).tolist()) for _ in range(200)]
    # A p-value is uniform itself: of 200, 20 below 0.1, give or take 13 (three deviations).
    assert 7 <= sum(p < 0.1 for p in even) <= 33
    assert uniformity((random.random(500) ** 1.4).tolist()) < 0.001
    assert uniformity([]) == 1.0
