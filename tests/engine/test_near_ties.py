"""Near-ties are found and resolved by a pass of one token, which leaves the cache intact."""

import numpy as np
import pytest

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.events import Finished, Generated
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.near_ties import first_near_tie
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats

NEVER, ALWAYS = 0.0, 1e6


def greedy(pair: Pair, question: str, n_draft: int, near_tie: float) -> tuple[list[int], Stats]:
    vocab = pair.target.vocab
    text = f"<|turn>user\n{question}<turn|>\n<|turn>model\n"
    request = GenerationRequest(
        [vocab.bos, *vocab.tokenize(text, special=True)],
        SamplingParams(temperature=0.0),
        n_draft=n_draft,
        max_tokens=60,
        near_tie=near_tie,
    )
    *events, last = pair.decode_loop().run(request)
    assert isinstance(last, Finished)
    ids = [p.token_id for e in events if isinstance(e, Generated) for p in e.pieces]
    return ids, last.stats


@pytest.mark.parametrize("question", ["Count from 3 to 40.", "Tell me a story about a fox."])
def test_resolved_near_ties_equal_the_choices_without_drafting(pair: Pair, question: str) -> None:
    plain, _ = greedy(pair, question, 0, NEVER)
    settled, stats = greedy(pair, question, 4, ALWAYS)
    assert settled == plain
    assert stats.accepted == 0
    # A pass over the draft and one over its first token, for every token but the last: no draft
    # is made for that one.
    assert 2 * len(plain) - 4 <= stats.target_passes <= 2 * len(plain)


def test_only_near_ties_cost_a_pass(pair: Pair) -> None:
    question = "Count from 3 to 40."
    ids, plain = greedy(pair, question, 4, NEVER)
    again, some = greedy(pair, question, 4, 0.2)
    assert again == ids
    assert plain.target_passes <= some.target_passes < 1.5 * plain.target_passes


def test_the_first_near_tie_is_found() -> None:
    logits = np.zeros((3, 600), np.float32)
    logits[0, 7], logits[1, 9], logits[1, 500], logits[2, 3] = 5.0, 4.0, 3.9, 0.05
    before = logits.copy()
    assert first_near_tie(logits, 0.01) is None
    assert first_near_tie(logits, 0.07) == 2
    assert first_near_tie(logits, 0.2) == 1
    assert first_near_tie(logits[:1], 0.2) is None
    np.testing.assert_array_equal(logits, before)
