"""Drafts copied from the context: found where text repeats, and never believed."""

import pytest

from localmtp.engine.decoding.generate import Generation
from localmtp.engine.events import Generated
from localmtp.engine.pacing import AutoPacing, FixedPacing, Pacing
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import make_sampler
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import Detokenizer

GREEDY = SamplingParams(temperature=0.0)
LINE = "The blue wagon belongs to Oscar. My mouse is very tired. "


class Copying(FixedPacing):
    """Copies whatever there is, and drafts nothing else."""

    def __init__(self) -> None:
        super().__init__(0)
        self.matches: list[int] = []

    def copy(self, match: int, available: int) -> int:
        self.matches.append(match)
        return min(available, 8)


def generate(pair: Pair, text: str, pacing: Pacing) -> tuple[list[int], Counters]:
    """Go on with a text for 48 tokens at most, greedily."""
    counters = Counters()
    generation = Generation(
        target=pair.target,
        drafter=pair.drafter,
        sampler=make_sampler(GREEDY),
        pacing=pacing,
        reader=Detokenizer(pair.target.vocab),
        counters=counters,
        max_tokens=48,
        cancelled=lambda: False,
    )
    vocab = pair.target.vocab
    ids: list[int] = []
    for event in generation.run([vocab.bos, *vocab.tokenize(text, special=True)]):
        if isinstance(event, Generated):
            ids += [piece.token_id for piece in event.pieces]
    return ids, counters


def test_what_repeats_is_copied_and_the_text_stays_the_same(pair: Pair) -> None:
    prompt = f"<|turn>user\nrepeat {LINE}<turn|>\n<|turn>model\n{LINE[:20]}"
    plain, _ = generate(pair, prompt, FixedPacing(0))
    pacing = Copying()
    copied, counters = generate(pair, prompt, pacing)
    assert copied == plain
    assert counters.draft_steps == 0 < sum(counters.accepted_at)


def test_nothing_is_copied_where_nothing_repeats(pair: Pair) -> None:
    pacing = Copying()
    vocab = pair.target.vocab
    unlike = [token for token in range(300, 340) if vocab.piece(token)]
    draft = pair.drafter.propose(unlike[-1], make_sampler(GREEDY), pacing)
    assert draft.tokens == []
    assert pacing.matches == []


def test_another_conversation_is_not_copied_from(pair: Pair) -> None:
    generate(pair, LINE * 3, Copying())
    vocab, pacing = pair.target.vocab, Copying()
    for text in ("Monday Tuesday Wednesday", LINE):
        # The line itself has no three tokens twice; only the conversation before had them.
        list(pair.target.prefill([vocab.bos, *vocab.tokenize(text, special=True)]))
        last = pair.target.tokens.pop()
        draft = pair.drafter.propose(last, make_sampler(GREEDY), pacing)
        assert draft.tokens == []


@pytest.mark.parametrize(("match", "least"), [(3, 0), (25, 4)])
def test_long_matches_are_trusted_more(match: int, least: int) -> None:
    pacing = AutoPacing()
    for _ in range(12):
        pacing.begin(16)
        while pacing.go_on() and pacing.keep(0.3):
            pass
        pacing.settle(0, 0.001, 0.010)
    pacing.begin(16)
    assert pacing.copy(match, 16) >= least


def test_bad_copies_are_given_up_and_tried_again() -> None:
    def copied(pacing: AutoPacing, accepted: int) -> int:
        pacing.begin(16)
        length = pacing.copy(12, 16)
        drafted = steps = 0
        while not length and pacing.go_on():
            steps += 1
            if not pacing.keep(0.3):
                break
            drafted += 1
        cost = 0.010 * (1 + 0.5 * (length or drafted))
        pacing.settle(min(accepted, length), steps * 0.002, cost)
        return length

    pacing = AutoPacing()
    first = [copied(pacing, 0) for _ in range(120)]
    assert max(first) > 0
    assert first[-20:].count(0) > 15
    later = [copied(pacing, 16) for _ in range(800)]
    assert sum(later[-20:]) > 40
