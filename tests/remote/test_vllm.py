"""vLLM's counts of drafts: in the last chunk, or on its metrics page."""

from pathlib import Path

import pytest

from tests.remote.loopback import Chunk, Script, ended, said, usage
from tests.remote.test_session import conversing, last

VLLM_PAGE = Path(__file__).with_name("vllm-metrics.txt").read_text()


def later(page: str, *, generated: int, drafts: int, accepted: tuple[int, int]) -> str:
    """The page after further generation."""
    totals = {
        "generation_tokens_total": 1000 + generated,
        "num_drafts_total": 400 + drafts,
        "num_draft_tokens_total": 800 + 2 * drafts,
        "num_accepted_tokens_total": 600 + sum(accepted),
        'position="0"': 350 + accepted[0],
        'position="1"': 250 + accepted[1],
    }
    lines = page.splitlines()
    for number, line in enumerate(lines):
        for name, total in totals.items():
            if name in line and "created" not in line and not line.startswith("#"):
                lines[number] = f"{line.rpartition(' ')[0]} {total}.0"
    return "\n".join(lines)


class TestVllm:
    """Counters before and after an answer, on a page as documented by vLLM."""

    CHUNKS = (
        said("Hello", usage={"prompt_tokens": 5, "completion_tokens": 3}),
        said(" you", usage={"prompt_tokens": 5, "completion_tokens": 9}),
        ended(),
        usage(5, 10),
    )

    def test_difference_of_the_counters_belongs_to_the_answer(self) -> None:
        after = later(VLLM_PAGE, generated=10, drafts=4, accepted=(3, 2))
        pages = [VLLM_PAGE, VLLM_PAGE, after]  # the counters are updated late
        with conversing(Script(self.CHUNKS, owner="vllm", pages=pages)) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert stats.drafting == "on"
        assert (stats.drafted, stats.accepted) == (8, 5)
        assert stats.acceptance_by_position == (3 / 4, 2 / 4)
        assert stats.tokens_per_pass == 9 / 4

    def test_answers_of_other_clients_are_not_attributed(self) -> None:
        after = later(VLLM_PAGE, generated=500, drafts=200, accepted=(90, 80))
        with conversing(Script(self.CHUNKS, owner="vllm", pages=[VLLM_PAGE, after])) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert stats.drafting == "unknown: other clients used the server meanwhile"
        assert stats.drafted == 0

    def test_page_without_draft_counters(self) -> None:
        page = "\n".join(line for line in VLLM_PAGE.splitlines() if "spec_decode" not in line)
        with conversing(Script(self.CHUNKS, owner="vllm", pages=[page])) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert stats.drafting == "off: the server has no drafter"

    def test_draft_that_overshoots_the_end_counts_as_a_pass(self) -> None:
        # Six passes with one accepted draft token each: 12 tokens after the first, 9 of them sent.
        after = later(VLLM_PAGE, generated=10, drafts=6, accepted=(6, 0))
        with conversing(Script(self.CHUNKS, owner="vllm", pages=[VLLM_PAGE, after])) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert stats.target_passes == 6
        assert stats.tokens_per_pass <= 2

    def test_metrics_of_version_0_32(self) -> None:
        drafting = {"mean_acceptance_length": 2.93, "draft_acceptance_rate": 0.643}
        drafting |= {"acceptance_histogram": [2, 3, 3, 6], "num_spec_steps": 14}  # type: ignore[dict-item]
        drafting |= {"num_accepted_draft_tokens": 27, "num_draft_tokens": 42, "num_spec_tokens": 3}
        last_chunk = usage(5, 42, metrics={"speculative_decoding": drafting})
        with conversing(Script([*self.CHUNKS[:-1], last_chunk], owner="vllm")) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert (stats.drafted, stats.accepted, stats.target_passes) == (42, 27, 14)
        assert stats.acceptance_by_position == (12 / 14, 9 / 14, 6 / 14)
        assert stats.drafting == "on"

    @pytest.mark.parametrize(
        "drafting",
        [
            {"some_later_format": 1},
            {"acceptance_histogram_by_draft_length": {"3": [10**12, "x"]}},
            {"acceptance_histogram_by_draft_length": {"9999": [1]}},
            {"acceptance_histogram": [1, 2], "num_draft_tokens": 4},
        ],
    )
    def test_unknown_metrics_fall_back_to_the_page(self, drafting: object) -> None:
        chunks = [*self.CHUNKS[:-1], usage(5, 10, metrics={"speculative_decoding": drafting})]
        after = later(VLLM_PAGE, generated=10, drafts=4, accepted=(3, 2))
        with conversing(Script(chunks, owner="vllm", pages=[VLLM_PAGE, after])) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert (stats.drafted, stats.accepted) == (8, 5)

    def test_completion_without_a_limit(self) -> None:
        chunk: Chunk = {"choices": [{"index": 0, "text": " 4", "finish_reason": "stop"}]}
        script = Script([chunk, usage(3, 1)], owner="vllm")
        with conversing(script) as session:
            list(session.complete("1, 2, 3,"))
        assert script.asked[0]["max_tokens"] is None

    def test_metrics_of_one_request_are_exact(self) -> None:
        drafting = {"acceptance_histogram_by_draft_length": {"2": [1, 1, 2], "1": [0, 0]}}
        last_chunk = usage(5, 10, metrics={"speculative_decoding": drafting})
        script = Script([*self.CHUNKS[:-1], last_chunk], owner="vllm")
        with conversing(script) as session:
            stats = last(list(session.ask("Hi"))).stats
        assert (stats.drafted, stats.accepted, stats.target_passes) == (8, 5, 4)
        assert stats.acceptance_by_position == (3 / 4, 2 / 4)
