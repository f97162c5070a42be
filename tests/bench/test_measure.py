"""The order of measured answers, and which of them count."""

from collections import Counter

import pytest

from localmtp.bench.measure import MeasuredAnswer, MeasurePlan, measure
from localmtp.bench.results import Results
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.models import resolve
from localmtp.session import Choices

LENGTHS = [0, 2, None]
PLAN = MeasurePlan(
    workloads={"count": ["Count from 1 to 3.", "Count from 2 to 5."], "say": ["Say 2 times: cat"]},
    lengths=LENGTHS,
    choices=[Choices(temperature=0, max_tokens=8)],
    repeats=2,
)


@pytest.fixture(scope="module")
def answers() -> list[MeasuredAnswer]:
    files = resolve("nano")
    with Pair.load(files.target, files.drafter, LoadOptions(threads=1, context=512)) as pair:
        return list(measure(pair, files, PLAN))


def test_every_prompt_is_answered_at_all_lengths_in_rotating_order(
    answers: list[MeasuredAnswer],
) -> None:
    assert len(answers) == PLAN.answers == 18
    rounds = [answers[i : i + 3] for i in range(0, 18, 3)]
    for found in rounds:
        assert len({(a.workload, a.prompt, a.repeat) for a in found}) == 1
        assert sorted(map(str, (a.n_draft for a in found))) == sorted(map(str, LENGTHS))
    firsts = Counter(found[0].n_draft for found in rounds)
    assert set(firsts.values()) == {2}


def test_unfinished_rounds_and_repeats_do_not_count(answers: list[MeasuredAnswer]) -> None:
    """Cut in the second repeat, after one of the two prompts of `count` and within `say`."""
    whole = Results(PLAN, answers)
    assert [len(run.rates) for run in whole.runs] == [2] * 6
    cut = Results(PLAN, answers[:14])
    assert {run.workload: len(run.rates) for run in cut.runs} == {"count": 1, "say": 1}
    assert not Results(PLAN, answers[:2]).runs


def test_pooled_figures_are_those_of_the_answers(answers: list[MeasuredAnswer]) -> None:
    run = Results(PLAN, answers).run(0.0, "count", 2)
    own = [a.stats for a in answers if a.workload == "count" and a.n_draft == 2]
    decoded = sum(s.completion_tokens - 1 for s in own)
    assert run.stats.decode_tokens_per_s == pytest.approx(decoded / sum(s.decode_s for s in own))
    assert run.stats.target_passes == sum(s.target_passes for s in own)
    assert run.stats.drafted == sum(s.drafted for s in own)
    time = run.stats.time
    total = time.draft_s + time.verify_s + time.sample_s + time.other_s
    assert total == pytest.approx(sum(s.decode_s for s in own))
