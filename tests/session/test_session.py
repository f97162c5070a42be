"""Conversations of several turns: editing, thinking, a full context, drafting on and off."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import gguf
import pytest
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

from localmtp.engine.events import Channel, Finished, FinishReason, Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.session import Choices, Message, OnFull, Role, Session
from localmtp.session.local import LocalSession

FILES = resolve("nano")
SHORT = "Say cat 3 times."
LONG = "Count from 3 to 40 and then say which animals live in the house. " * 30
"""About 600 tokens: more than the cache of the sliding window holds."""

MakeSession = Callable[[Choices], Session]


def load(target: Path = FILES.target, context: int = 1024) -> Pair:
    return Pair.load(target, FILES.drafter, LoadOptions(threads=1, context=context))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with load() as loaded:
        yield loaded


@pytest.fixture
def session(pair: Pair) -> MakeSession:
    pair.sequences[0].clear()
    return lambda choices: LocalSession(pair, FILES, choices)


def ask(session: Session, text: str) -> Stats:
    return finish(session.ask(text))


def finish(events: Iterator[object]) -> Stats:
    *_, last = events
    assert isinstance(last, Finished)
    return last.stats


def prefilled(stats: Stats) -> int:
    return stats.prompt_tokens - stats.reused_tokens


def test_answering_again_reuses_the_prompt(session: MakeSession) -> None:
    chat = session(Choices(temperature=0, max_tokens=40))
    ask(chat, "Count from 1 to 9. " * 12)
    first = chat.messages[-1].text
    ask(chat, LONG)
    del chat.messages[1:]
    again = finish(chat.answer())
    assert again.prompt_tokens > 80
    assert prefilled(again) < 10
    assert chat.messages[-1].text == first


def test_an_edited_question_reuses_what_precedes_it(session: MakeSession, pair: Pair) -> None:
    chat = session(Choices(temperature=0, max_tokens=40))
    ask(chat, "Count from 1 to 9. " * 12)
    ask(chat, LONG)
    del chat.messages[2:]
    edited = ask(chat, SHORT)
    assert edited.reused_tokens > 100
    assert prefilled(edited) < 40
    answer = chat.messages[-1].text
    pair.sequences[0].clear()
    del chat.messages[3:]
    assert finish(chat.answer()).reused_tokens == 0
    assert chat.messages[-1].text == answer


@pytest.fixture
def closing_target(tmp_path: Path, pair: Pair) -> Path:
    """The embedded target, with the larger sizes' template.

    Without thinking, an answer begins with an empty thought, which is not part of the history.
    """
    name = gguf.Keys.Tokenizer.CHAT_TEMPLATE
    source = pair.target.model.metadata[name]
    opening = r"{{- '<|turn>model\n' -}}"
    assert source.count(opening) == 1
    empty = r"{%- if not enable_thinking -%}{{- '<|channel>thought\n<channel|>' -}}{%- endif -%}"
    text = MetadataDetails(gguf.GGUFValueType.STRING, source.replace(opening, opening + empty))
    path = tmp_path / "closing.gguf"
    writer = gguf.GGUFWriter(path, "gemma4")
    copy_with_new_metadata(gguf.GGUFReader(FILES.target), writer, {name: text}, [])
    return path


@pytest.mark.parametrize("closes", [False, True], ids=["small", "large"])
def test_thoughts_are_left_out_of_the_prompt_and_cost_no_new_prefill(
    closing_target: Path, closes: bool
) -> None:
    target = closing_target if closes else FILES.target
    with load(target) as pair:
        chat = LocalSession(pair, FILES, Choices(temperature=0, think=True, max_tokens=60))
        stats = [ask(chat, f"What is {n} plus {n}?") for n in range(2, 8)]
        for message in chat.messages[1::2]:
            assert message.thought
            assert "<" not in message.thought + message.text
            assert message.thought not in chat.prompt()
        assert all(prefilled(s) < 60 for s in stats[1:])
        assert stats[-1].prompt_tokens > 150
        chat.update_settings(replace(chat.settings, think=False))
        assert chat.prompt().endswith("<channel|>") == closes
        ask(chat, SHORT)
        assert prefilled(ask(chat, SHORT)) < 80


def test_a_cut_thought_is_continued(session: MakeSession) -> None:
    question = "What is 3 plus 4?"
    whole = session(Choices(temperature=0, n_draft=0, think=True, max_tokens=60))
    ask(whole, question)
    expected = whole.messages[-1]
    assert expected.thought
    cut = session(Choices(temperature=0, n_draft=0, think=True, max_tokens=5))
    ask(cut, question)
    assert cut.messages[-1].thought
    assert not cut.messages[-1].text
    cut.update_settings(replace(cut.settings, max_tokens=60))
    finish(cut.resume())
    assert (cut.messages[-1].thought, cut.messages[-1].text) == (expected.thought, expected.text)


def test_markers_of_turns_are_never_generated_as_text(session: MakeSession) -> None:
    chat = session(Choices(temperature=20, top_k=0, top_p=1, seed=1, max_tokens=150))
    channels = set()
    said = ""
    for event in chat.ask(SHORT):
        if isinstance(event, Generated):
            said += "".join(piece.text for piece in event.pieces)
            channels |= {piece.channel for piece in event.pieces}
    assert len(said) > 20
    assert channels <= set(Channel)
    assert not any(mark in said for mark in ("<|turn>", "<|channel>", "<channel|>", "<|tool"))


def test_a_full_conversation_stops() -> None:
    with load(context=256) as small:
        chat = LocalSession(small, FILES, Choices(temperature=0, max_tokens=60))
        with pytest.raises(LocalmtpError, match="and the context 256"):
            for _ in range(12):
                ask(chat, "Count from 3 to 40.")
        assert chat.messages[-1].role is Role.MODEL
        assert not any(m.dropped for m in chat.messages)


def test_a_full_conversation_continues_without_its_oldest_turns() -> None:
    with load(context=256) as small:
        choices = Choices(
            temperature=0, max_tokens=60, system="Be brief.", on_full=OnFull.DROP, n_draft=8
        )
        chat = LocalSession(small, FILES, choices)
        sizes = [ask(chat, f"Count from {n} to 40.").prompt_tokens for n in range(12)]
        assert max(sizes) < 256
        assert sizes[0] < sizes[1] < sizes[2]
        dropped = [m.dropped for m in chat.messages]
        assert dropped == sorted(dropped, reverse=True)
        assert 0 < sum(dropped) < len(dropped)
        assert sum(dropped) % 2 == 0
        assert "Be brief." in chat.prompt()
        assert "from 0 to" not in chat.prompt()
        assert "from 11 to" in chat.prompt()
        # Several turns are dropped together, because the rest is prefilled again each time.
        assert sum(later < earlier for earlier, later in pairwise(sizes)) <= 5
        with pytest.raises(LocalmtpError, match="and the context 256"):
            chat.ask("Count. " * 200)


def test_an_answer_cut_by_the_context_is_continued_after_dropping() -> None:
    with load(context=256) as small:
        chat = LocalSession(small, FILES, Choices(temperature=0, on_full=OnFull.DROP))
        chat.messages += [Message(Role.USER, "Say cat. " * 30), Message(Role.MODEL, "cat. " * 10)]
        chat.messages += [Message(Role.USER, "Count from 1 to 90."), Message(Role.MODEL, "1, 2,")]
        chat.messages[-1].text = ", ".join(map(str, range(1, 30)))
        begun = chat.messages[-1].text
        assert finish(chat.resume()).prompt_tokens < 256
        assert chat.messages[-1].text.startswith(begun)
        assert [m.dropped for m in chat.messages] == [True, True, False, False]


def test_drafting_can_be_switched_between_two_answers(session: MakeSession) -> None:
    chat = session(Choices(temperature=0, n_draft=0, max_tokens=40))
    plain = ask(chat, "Count from 1 to 9.")
    chat.messages.clear()
    chat.update_settings(replace(chat.settings, n_draft=3))
    drafted = ask(chat, "Count from 1 to 9.")
    assert (plain.draft_steps, plain.drafting) == (0, "off: --n-draft 0")
    assert drafted.draft_steps > 0
    assert drafted.drafting == "on"
    assert drafted.target_passes < plain.target_passes
    assert chat.messages[-1].finish is FinishReason.STOP


def test_a_prompt_that_does_not_fit_names_a_context_that_the_model_supports() -> None:
    for context, length, hint in ((256, 40, "--ctx 512"), (1024, 200, "--ctx 2048")):
        with load(context=context) as small:
            chat = LocalSession(small, FILES, Choices())
            with pytest.raises(LocalmtpError) as caught:
                chat.ask("Count from 3 to 40. " * length)
            assert caught.value.hint.endswith(hint)
    with load(context=256) as small:
        chat = LocalSession(small, FILES, Choices())
        with pytest.raises(LocalmtpError) as caught:
            chat.ask("Count from 3 to 40. " * 20_000)
        assert "shorten it" in caught.value.hint


def test_lone_surrogates_in_a_prompt_are_replaced(session: MakeSession) -> None:
    chat = session(Choices(temperature=0, max_tokens=5, system="Be brief.\ud800"))
    ask(chat, "Count from 1 to 9. \ud83d")
    assert chat.messages[0].text == "Count from 1 to 9. \ufffd"
    assert "\ufffd" in chat.prompt()
    assert finish(chat.complete("one, \udc00two,")).completion_tokens > 0
