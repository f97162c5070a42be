"""Drafts copied from the context: found where text repeats, and always verified."""

import json
import subprocess
import sys

import pytest

from localmtp.engine.decoding.drafter import DraftSlot
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.drafters.prompt_lookup import PromptLookup
from localmtp.engine.events import Generated
from localmtp.engine.pacing import DraftPolicy, FixedPolicy
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import make_sampler
from localmtp.engine.stats import Counters
from tests.engine.rounds import SingleAnswer

GREEDY = SamplingParams(temperature=0.0)
LINE = "The blue wagon belongs to Oscar. My mouse is very tired. "


class Copying(FixedPolicy):
    """Copies whatever is found, and never drafts."""

    def __init__(self) -> None:
        super().__init__(0)
        self.matches: list[int] = []

    def copy_length(self, match: int, available: int) -> int:
        self.matches.append(match)
        return min(available, 8)


def generate(pair: Pair, text: str, policy: DraftPolicy) -> tuple[list[int], Counters]:
    """Continues a text greedily, by at most 48 tokens."""
    counters, vocab = Counters(), pair.target.vocab
    request = GenerationRequest(
        [vocab.bos, *vocab.tokenize(text, special=True)],
        GREEDY,
        max_tokens=48,
        policy=policy,
        counters=counters,
    )
    ids: list[int] = []
    for event in pair.decode_loop().run(request):
        if isinstance(event, Generated):
            ids += [piece.token_id for piece in event.pieces]
    return ids, counters


def test_repetitions_are_copied_and_the_text_is_unchanged(pair: Pair) -> None:
    prompt = f"<|turn>user\nrepeat {LINE}<turn|>\n<|turn>model\n{LINE[:20]}"
    plain, _ = generate(pair, prompt, FixedPolicy(0))
    pacing = Copying()
    copied, counters = generate(pair, prompt, pacing)
    assert copied == plain
    assert counters.draft_steps == 0 < sum(counters.accepted_at)


def test_nothing_is_copied_where_nothing_repeats(pair: Pair) -> None:
    policy, sequence = Copying(), pair.sequences[0]
    vocab = pair.target.vocab
    *unlike, last = [token for token in range(300, 340) if vocab.piece(token)]
    prefill(sequence, unlike)
    lookup = PromptLookup(sequence)
    lookup.restart(0)
    slot = DraftSlot(sequence, make_sampler(GREEDY), policy, last)
    assert not lookup.propose(slot)
    assert not slot.draft.tokens
    assert policy.matches == []


def test_nothing_is_copied_from_another_conversation(pair: Pair) -> None:
    generate(pair, LINE * 3, Copying())
    vocab, sequence = pair.target.vocab, pair.sequences[0]
    lookup = PromptLookup(sequence)
    repeated = f"{LINE}{LINE}The blue wagon"
    for text in (repeated, "Monday Tuesday Wednesday", LINE):
        # The line itself has no three tokens twice; only the conversation before had them.
        *tokens, last = [vocab.bos, *vocab.tokenize(text, special=True)]
        prefill(sequence, tokens)
        lookup.restart(1)
        slot = DraftSlot(sequence, make_sampler(GREEDY), Copying(), last)
        assert lookup.propose(slot) == (text == repeated)


def test_media_are_never_copied(pair: Pair) -> None:
    """Media have ids below 0 in the prompt, which no vocabulary has."""
    sequence = pair.sequences[0]
    sequence.clear()
    sequence.tokens.extend([5, 6, 7, -3, -4, 8, 9, 5, 6])
    policy = Copying()
    slot = DraftSlot(sequence, make_sampler(GREEDY), policy, 7)
    lookup = PromptLookup(sequence)
    lookup.restart(0)
    assert not lookup.propose(slot)
    sequence.tokens.clear()
    assert not slot.draft.tokens
    assert policy.matches == []


@pytest.mark.parametrize(("match", "least"), [(3, 0), (25, 4)])
def test_long_matches_are_trusted_more(match: int, least: int) -> None:
    answer = SingleAnswer()
    for _ in range(12):
        answer.begin(16)
        answer.draft([0.3] * 16)
        answer.end(0, 0.001, 0.010)
    answer.begin(16)
    assert answer.copy(match, 16) >= least


def test_bad_copies_stop_and_are_tried_again() -> None:
    def copied(answer: SingleAnswer, accepted: int) -> int:
        answer.begin(16)
        length = drafted = answer.copy(12, 16)
        steps = 0
        if not length:
            drafted, steps = answer.draft([0.3] * 16)
        cost = 0.010 * (1 + 0.5 * drafted)
        answer.end(min(accepted, length), steps * 0.002, cost)
        return length

    answer = SingleAnswer()
    first = [copied(answer, 0) for _ in range(120)]
    assert max(first) > 0
    assert first[-20:].count(0) > 15
    later = [copied(answer, 16) for _ in range(800)]
    assert sum(later[-20:]) > 40


@pytest.mark.parametrize("n_draft", ["auto", "6"])
def test_copies_without_a_drafter_leave_answers_unchanged(n_draft: str) -> None:
    text = f"Repeat: {LINE}{LINE}"
    command = [sys.executable, "-m", "localmtp", "run", "nano", text, "--json"]
    command += ["--temp", "0", "--max-tokens", "60", "--threads", "1"]
    plain, copied = (
        json.loads(subprocess.run([*command, *flags], capture_output=True, check=True).stdout)
        for flags in (["--drafter", "none"], ["--drafter", "lookup", "--n-draft", n_draft])
    )
    assert (plain["drafter"], copied["drafter"]) == ("", "lookup")
    assert plain["stats"]["drafting"] == "off: --drafter none"
    assert copied["stats"]["drafting"] == "on"
    assert copied["stats"]["draft_steps"] == 0
    assert n_draft == "auto" or copied["stats"]["accepted"] > 0
    same = [a == b for a, b in zip(plain["token_ids"], copied["token_ids"], strict=False)]
    assert all(same[:20])
