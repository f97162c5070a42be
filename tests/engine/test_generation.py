"""Generation on the embedded pair: drafting changes speed and never the output."""

from collections.abc import Callable

import numpy as np
import pytest

from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.events import Event, Finished, FinishReason, Generated, Origin, Prefilled
from localmtp.engine.pair import Pair
from localmtp.engine.sampling.distribution import NO_DRAFT
from localmtp.engine.sampling.sampler import Greedy
from localmtp.session import Choices, Session
from tests.engine.near_ties import ROUNDING

MakeSession = Callable[[Choices], Session]
PROMPT = "Count from 3 to 40."


def run(session: Session, prompt: str = PROMPT) -> tuple[list[Event], list[int]]:
    events = list(session.ask(prompt))
    ids = [p.token_id for e in events if isinstance(e, Generated) for p in e.pieces]
    return events, ids


def margin_after(pair: Pair, prefix: list[int]) -> float:
    """Returns the margin between the target's two largest logits after `prefix`."""
    top = np.sort(prefill(pair.sequences[0], prefix)[0])
    return float(top[-1] - top[-2])


@pytest.mark.parametrize("n_draft", [1, 3, 8, 16, None])
def test_greedy_output_is_the_same_with_and_without_drafting(
    session: MakeSession, pair: Pair, n_draft: int | None
) -> None:
    plain = session(Choices(temperature=0, n_draft=0, max_tokens=120))
    _, expected = run(plain)
    _, found = run(session(Choices(temperature=0, n_draft=n_draft, max_tokens=120)))
    if found != expected:
        split = next(i for i in range(len(expected)) if found[i : i + 1] != expected[i : i + 1])
        plain.messages.pop()
        prompt = pair.target.vocab.tokenize(plain.prompt(), special=True)
        assert margin_after(pair, prompt + expected[:split]) < 0.05


def test_drafts_are_accepted_and_counted(session: MakeSession) -> None:
    events, ids = run(session(Choices(temperature=0, n_draft=3, max_tokens=120)))
    finished = events[-1]
    assert isinstance(finished, Finished)
    stats = finished.stats
    pieces = [p for e in events if isinstance(e, Generated) for p in e.pieces]
    assert pieces[0].origin is Origin.PREFILL
    drafts = sum(p.origin is Origin.DRAFT for p in pieces)
    assert stats.completion_tokens == len(ids) == len(pieces)
    assert stats.accepted >= drafts > 0  # drafts after the end of the turn are not output
    assert stats.acceptance_rate > 0.6
    assert stats.target_passes < len(ids) - 1
    assert len(stats.acceptance_by_position) == 3
    rates = stats.acceptance_by_position
    assert all(0 <= rate <= 1 for rate in rates)
    for event in events:
        if isinstance(event, Generated) and event.drafted:
            kept = [p.token_id for p in event.pieces if p.origin is Origin.DRAFT]
            assert kept == list(event.drafted[: len(kept)])


def test_time_adds_up(session: MakeSession) -> None:
    events, _ = run(session(Choices(temperature=0, n_draft=2, max_tokens=60)))
    assert isinstance(events[-1], Finished)
    stats = events[-1].stats
    parts = stats.time
    total = parts.draft_s + parts.verify_s + parts.sample_s + parts.other_s
    assert total == pytest.approx(stats.decode_s, rel=1e-6)
    assert stats.ttft_s >= stats.prefill_s > 0


def test_without_drafting_every_pass_gives_one_token(session: MakeSession) -> None:
    events, ids = run(session(Choices(temperature=0, n_draft=0, max_tokens=30)))
    assert isinstance(events[-1], Finished)
    stats = events[-1].stats
    assert stats.target_passes == stats.completion_tokens - 1 == len(ids) - 1
    assert stats.draft_steps == 0
    assert stats.drafting == "off: --n-draft 0"


def test_rejected_drafts_leave_no_trace_in_the_cache(session: MakeSession, pair: Pair) -> None:
    """After many rollbacks the cache gives the same logits as a fresh one."""
    run(session(Choices(temperature=1.5, n_draft=8, seed=3, max_tokens=150)), "Tell me a story.")
    sequence = pair.sequences[0]
    tokens = list(sequence.tokens)
    judged = sequence.verify(tokens[-1])[0].copy()
    sequence.clear()
    fresh = prefill(sequence, [*tokens, tokens[-1]])[0]
    np.testing.assert_allclose(fresh, judged, atol=ROUNDING)


def test_the_same_seed_gives_the_same_answer(session: MakeSession) -> None:
    choices = Choices(temperature=1.0, n_draft=2, seed=42, max_tokens=50)
    assert run(session(choices))[1] == run(session(choices))[1]


def test_the_length_limit_is_exact(session: MakeSession) -> None:
    for limit in (1, 2, 7):
        events, ids = run(session(Choices(temperature=0, n_draft=8, max_tokens=limit)))
        assert isinstance(events[-1], Finished)
        assert len(ids) == limit
        assert events[-1].reason is FinishReason.LENGTH


def test_a_full_context_ends_the_answer(session: MakeSession, pair: Pair) -> None:
    chat = session(Choices(temperature=2.0, n_draft=4, seed=1))
    n_ctx = pair.target.n_ctx
    words = (n_ctx - 60) // len(pair.target.vocab.tokenize(" count", special=False))
    prompt = " count" * words
    events = list(chat.complete(prompt))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert len(pair.sequences[0].tokens) <= n_ctx


def test_prefill_is_reported_up_to_the_whole_prompt(session: MakeSession, pair: Pair) -> None:
    words = 600 // len(pair.target.vocab.tokenize(" word", special=False))
    events, _ = run(session(Choices(temperature=0, max_tokens=5)), " word" * words)
    progress = [e for e in events if isinstance(e, Prefilled)]
    assert progress[-1].done == progress[-1].total > 400
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert len(progress) >= 3


def test_the_next_turn_prefills_only_what_is_new(session: MakeSession) -> None:
    chat = session(Choices(temperature=0, max_tokens=40))
    run(chat, "Say cat 3 times.")
    events, _ = run(chat, "Count from 1 to 5.")
    assert isinstance(events[-1], Finished)
    stats = events[-1].stats
    assert stats.reused_tokens > 15
    assert stats.prompt_tokens - stats.reused_tokens < 30


def test_reuse_changes_nothing(session: MakeSession, pair: Pair) -> None:
    """Compares the second turn's first logits from a reused and from a fresh cache."""
    chat = session(Choices(temperature=0, max_tokens=40))
    run(chat, "Say cat 3 times.")
    chat.messages.append(type(chat.messages[0])(chat.messages[0].role, "Count from 1 to 5."))
    prompt = pair.target.vocab.tokenize(chat.prompt(), special=True)
    sequence = pair.sequences[0]
    assert sequence.shared_prefix(prompt) > 0
    reused = prefill(sequence, prompt)[0].copy()
    sequence.clear()
    fresh = prefill(sequence, prompt)
    np.testing.assert_allclose(fresh[0], reused, atol=ROUNDING)
    assert Greedy().accept(fresh, NO_DRAFT)[1] == int(reused.argmax())


def test_cancelling_keeps_the_answer_and_the_session(session: MakeSession) -> None:
    chat = session(Choices(temperature=0, n_draft=2))
    seen = 0
    for event in chat.ask("Count from 1 to 60."):
        seen += isinstance(event, Generated)
        if seen == 5:
            chat.cancel()
        last = event
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    partial = chat.messages[-1]
    assert partial.text
    assert partial.finish is FinishReason.CANCELLED
    _, after = run(chat)
    assert after == run(session(Choices(temperature=0, n_draft=2)))[1] or len(after) > 5


def test_an_answer_can_be_cancelled_before_it_begins(session: MakeSession) -> None:
    chat = session(Choices(temperature=0))
    events = chat.ask("Count from 1 to 60.")
    chat.cancel()
    *progress, last = events
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    assert [e.done - e.reused for e in progress if isinstance(e, Prefilled)] == [0]
    assert len(progress) == 1
    _, ids = run(chat, "Count from 1 to 4.")
    assert ids


def test_an_abandoned_answer_leaves_the_session_usable(session: MakeSession) -> None:
    chat = session(Choices(temperature=0, n_draft=3))
    events = chat.ask("Count from 1 to 60.")
    for event in events:
        if isinstance(event, Generated):
            break
    events.close()  # type: ignore[attr-defined]
    assert chat.messages[-1].finish is FinishReason.CANCELLED
    _, ids = run(chat, "Count from 1 to 4.")
    assert ids


def test_a_cut_answer_can_be_resumed(session: MakeSession) -> None:
    whole = session(Choices(temperature=0, n_draft=0, max_tokens=40))
    run(whole)
    chat = session(Choices(temperature=0, n_draft=0, max_tokens=20))
    run(chat)
    list(chat.resume())
    assert chat.messages[-1].text == whole.messages[-1].text
