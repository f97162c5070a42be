"""Saved conversations: nothing that was saved is lost, however the program ends."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest

from localmtp.engine.events import FinishReason
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.engine.stats import Counters
from localmtp.errors import LocalmtpError
from localmtp.history import History
from localmtp.history.store import MAX_TITLE
from localmtp.media import Media
from localmtp.session import Message, OnFull, Role, Settings

SAMPLING = SamplingParams(
    0.5,
    seed=7,
    acceptance=AcceptanceRule.MAXIMAL,
    repeat_penalty=1.1,
    presence_penalty=-1.0,
    logit_bias=((3, -1.5), (4, 2.0)),
)
SETTINGS = Settings(SAMPLING, 3, 100, "Be brief.", True, OnFull.DROP, think_budget=300)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "deep" / "history.sqlite3")


def test_messages_and_settings_are_loaded_unchanged(history: History) -> None:
    stats = Counters(context_size=256, completion_tokens=3).snapshot()
    messages = [
        Message(Role.USER, "two\nlines \N{GREEK SMALL LETTER ALPHA}"),
        Message(Role.MODEL, "answer", "thought", FinishReason.STOP, stats),
    ]
    conversation = history.begin("two\nlines", "nano")
    history.save(conversation, messages, SETTINGS)
    assert history.load(conversation) == messages
    history.save(conversation, messages[:1], SETTINGS)
    assert history.load(conversation) == messages[:1]
    assert history.settings(conversation) == SETTINGS
    assert history.settings(conversation + 1) is None


def test_unsent_media_are_saved_until_they_are_taken(history: History) -> None:
    media = [Media("image", b"\x89PNG", "a.png"), Media("audio", b"RIFF", "b.wav")]
    history.save_unsent("", [*media, media[0]])
    conversation = history.begin("Hello", "nano")
    history.save(conversation, [Message(Role.USER, "Hello", media=(media[0],))], Settings())
    history.delete(conversation)
    assert history.take_unsent() == ""
    assert history.take_unsent_media() == [*media, media[0]]
    assert history.take_unsent_media() == []


def test_unsent_text_is_saved_until_it_is_taken(history: History) -> None:
    assert history.take_unsent() == ""
    history.save_unsent("half a\nthought")
    assert history.take_unsent() == "half a\nthought"
    assert history.take_unsent() == ""


def test_a_file_of_the_first_version_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    history = History(path)
    old = history.begin("old", "nano")
    history.save(old, [Message(Role.USER, "text")], SETTINGS)
    history.close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "ALTER TABLE conversation DROP COLUMN settings; DROP TABLE unsent;"
            "ALTER TABLE conversation DROP COLUMN revision;"
            "DROP TABLE attachment; DROP TABLE unsent_media; DROP TABLE media;"
            "ALTER TABLE message DROP COLUMN steps;"
            "PRAGMA user_version = 1"
        )
    history = History(path)
    assert [message.text for message in history.load(old)] == ["text"]
    assert history.settings(old) is None
    history.save(old, [], SETTINGS)
    assert history.settings(old) == SETTINGS


def test_an_unfinished_answer_is_loaded_as_cancelled(history: History) -> None:
    conversation = history.begin("question", "nano")
    history.save(
        conversation, [Message(Role.USER, "question"), Message(Role.MODEL, "half an")], SETTINGS
    )
    assert history.load(conversation)[1].finish is FinishReason.CANCELLED


def test_finding_words_in_titles_and_messages(history: History) -> None:
    for title, text in (("Birds", "the heron"), ("Fish 100%", "the heron eats"), ("Moss", "green")):
        history.save(history.begin(title, "nano"), [Message(Role.USER, text)], SETTINGS)
    assert [saved.title for saved in history.find()] == ["Moss", "Fish 100%", "Birds"]
    assert [saved.title for saved in history.find("heron")] == ["Fish 100%", "Birds"]
    assert [saved.title for saved in history.find("HERON birds")] == ["Birds"]
    assert [saved.title for saved in history.find("100%")] == ["Fish 100%"]
    assert history.find("no_such") == []


def test_renaming_and_deleting(history: History) -> None:
    conversation = history.begin("x" * 200, "nano")
    history.save(conversation, [Message(Role.USER, "text")], SETTINGS)
    assert len(history.find()[0].title) == MAX_TITLE
    history.rename(conversation, "better")
    assert history.find()[0].title == "better"
    history.delete(conversation)
    assert history.find() == []
    assert history.load(conversation) == []


def test_damaged_files_are_moved_aside_without_replacing_each_other(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    contents = [b"no database %d, " % number * 500 for number in range(3)]
    for content in contents:
        path.write_bytes(content)
        damaged = History(path)
        assert "renamed to" in damaged.notice
        damaged.close()
    assert sorted(file.read_bytes() for file in tmp_path.glob("*.damaged-*")) == contents


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    path.write_bytes(b"no database at all, " * 500)
    history = History(path)
    (aside,) = tmp_path.glob("*.damaged-*")
    assert str(aside) in history.notice
    assert aside.read_bytes().startswith(b"no database")
    history.save(history.begin("new", "nano"), [Message(Role.USER, "text")], SETTINGS)
    assert [saved.title for saved in history.find()] == ["new"]


def test_a_file_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    history = History(path)
    history.begin("kept", "nano")
    history.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LocalmtpError, match="later version"):
        History(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LocalmtpError, match="cannot use the saved conversations") as caught:
        History(tmp_path / "file" / "history.sqlite3")
    assert caught.value.hint


def test_saved_messages_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    code = f"""
import os
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from localmtp.history import History
from localmtp.session import Message, Role, Settings
history = History(Path({str(path)!r}))
conversation = history.begin("question", "nano")
messages = [Message(Role.USER, "question"), Message(Role.MODEL, "so far")]
history.save(conversation, messages, Settings())
os._exit(9)  # as sudden as a kill, on every system
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ)
    assert killed.returncode == 9
    history = History(path)
    (saved,) = history.find("far")
    assert [message.text for message in history.load(saved.id)] == ["question", "so far"]
    assert history.notice == ""


def conversation_of(history: History, *texts: str) -> tuple[int, list[Message]]:
    roles = (Role.USER, Role.MODEL)
    messages = [Message(roles[n % 2], text) for n, text in enumerate(texts)]
    return history.save(history.begin(texts[0], "nano"), messages, SETTINGS), messages


def test_two_programs_that_continue_one_conversation_do_not_overwrite_each_other(
    tmp_path: Path,
) -> None:
    first, second = History(tmp_path / "h.sqlite3"), History(tmp_path / "h.sqlite3")
    shared, messages = conversation_of(first, "question", "answer")
    resumed, settings = second.resume(shared)
    assert settings == SETTINGS
    assert first.save(shared, [*messages, Message(Role.USER, "one")], SETTINGS, since=2) == shared
    resumed.append(Message(Role.USER, "two"))
    copy = second.save(shared, resumed, SETTINGS, since=2)
    assert copy != shared
    resumed.append(Message(Role.MODEL, "three"))
    assert second.save(copy, resumed, SETTINGS, since=3) == copy
    assert first.save(shared, messages, SETTINGS) == shared
    assert [m.text for m in first.load(copy)] == ["question", "answer", "two", "three"]
    assert [m.text for m in second.load(shared)] == ["question", "answer"]
    titles = {saved.id: saved.title for saved in first.find()}
    assert titles == {shared: "question", copy: "question (copy)"}


def test_looking_at_a_conversation_does_not_claim_it(tmp_path: Path) -> None:
    first, second = History(tmp_path / "h.sqlite3"), History(tmp_path / "h.sqlite3")
    shared, messages = conversation_of(first, "question", "answer")
    second.load(shared)
    second.find("question")
    messages.append(Message(Role.USER, "more"))
    assert first.save(shared, messages, SETTINGS) == shared


def test_a_conversation_deleted_elsewhere_is_saved_again(tmp_path: Path) -> None:
    first, second = History(tmp_path / "h.sqlite3"), History(tmp_path / "h.sqlite3")
    shared, messages = conversation_of(first, "question", "answer")
    second.delete(shared)
    messages.append(Message(Role.USER, "more"))
    again = first.save(shared, messages, SETTINGS, since=2)
    assert [m.text for m in second.load(again)] == ["question", "answer", "more"]
    assert second.resume(shared) != (messages, SETTINGS)


def test_a_conversation_of_a_later_version_is_read_and_never_saved_over(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite3"
    conversation, _ = conversation_of(History(path), "question", "a tool's result", "more")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE message SET role = 'tool' WHERE position = 1")
    history = History(path)
    messages, _ = history.resume(conversation)
    assert [m.text for m in messages] == ["question", "a tool's result", "more"]
    copy = history.save(conversation, messages, SETTINGS)
    assert copy != conversation
    with sqlite3.connect(path) as db:
        (role,) = db.execute("SELECT role FROM message WHERE position = 1").fetchone()
    assert role == "tool"


ODD = ("", "x", "{", "[]", "null", "1e999", "[" * 100_000, '{"a": 1}', b"\xff\xfe", 7, 1.5, None)


@pytest.mark.parametrize("column", ["role", "text", "thought", "finish", "stats"])
def test_odd_values_of_messages_do_not_raise(tmp_path: Path, column: str) -> None:
    path = tmp_path / "h.sqlite3"
    conversation, _ = conversation_of(History(path), "question", "answer")
    for value in ODD:
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE OR IGNORE message SET {column} = ?", (value,))
        history = History(path)
        for message in history.resume(conversation)[0]:
            assert isinstance(message.text, str) and isinstance(message.thought, str)
            assert isinstance(message.role, Role)
            assert message.finish is None or isinstance(message.finish, FinishReason)
        history.find("x")
        history.close()


@pytest.mark.parametrize("column", ["title", "model", "updated", "revision", "settings"])
def test_odd_values_of_conversations_do_not_raise(tmp_path: Path, column: str) -> None:
    path = tmp_path / "h.sqlite3"
    conversation, messages = conversation_of(History(path), "question", "answer")
    for value in ODD:
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE OR IGNORE conversation SET {column} = ?", (value,))
        history = History(path)
        assert all(isinstance(saved.updated, float) for saved in history.find())
        _, settings = history.resume(conversation)
        assert settings in (None, Settings(), SETTINGS)
        assert history.load(history.save(conversation, messages, SETTINGS))
        history.close()


def test_settings_that_are_invalid_or_unknown_have_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite3"
    conversation, _ = conversation_of(History(path), "question", "answer")
    saved = {
        "sampling": {
            "temperature": -1,
            "top_k": "many",
            "top_p": 0.5,
            "min_p": float("nan"),
            "acceptance": [],
            "logit_bias": [[1]],
            "repeat_penalty": 0,
        },
        "n_draft": 99,
        "max_tokens": True,
        "system": "Be brief.\ud800",
        "think": 1,
        "on_full": "summarize",
        "invented": [],
    }
    with sqlite3.connect(path) as db:
        db.execute("UPDATE conversation SET settings = ?", (json.dumps(saved),))
    _, settings = History(path).resume(conversation)
    assert settings == Settings(SamplingParams(top_p=0.5), system="Be brief.\ufffd")


def test_statistics_of_other_versions_are_left_out_or_completed(tmp_path: Path) -> None:
    path, history = tmp_path / "h.sqlite3", History(tmp_path / "h.sqlite3")
    stats = Counters(context_size=256, completion_tokens=3).snapshot()
    conversation = history.begin("question", "nano")
    history.save(
        conversation, [Message(Role.MODEL, "answer", "", FinishReason.STOP, stats)], SETTINGS
    )
    whole = asdict(stats)

    def stored(**changes: object) -> object:
        with sqlite3.connect(path) as db:
            db.execute("UPDATE message SET stats = ?", (json.dumps(whole | changes),))
        return history.load(conversation)[0].stats

    assert stored(invented=1) == stats
    assert stored(drafted="many") is None
    assert stored(decode_s=float("nan")) is None
    assert stored(time={}) is None
    assert stored(acceptance_by_position=[None]) is None
    del whole["threads"]
    assert stored() == stats
    del whole["drafted"]
    assert stored() is None


def test_lone_surrogates_are_replaced(history: History) -> None:
    messages = [
        Message(Role.USER, "half \ud83d"),
        Message(Role.MODEL, "pair \ud83d\ude00", "\udc00"),
    ]
    conversation = history.begin("title \ud800", "model \udfff")
    history.save(conversation, messages, Settings(system="\ud800"))
    user, model = history.load(conversation)
    assert (user.text, model.text, model.thought) == ("half \ufffd", "pair \U0001f600", "\ufffd")
    history.save_unsent("\ud800")
    assert history.take_unsent() == "\ufffd"
    history.rename(conversation, "\ud800")
    assert history.find("\ud800")[0].title == "\ufffd"


OPEN = """
import sys
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from localmtp.history import History
from localmtp.session import Message, Role, Settings
sys.stdin.read(1)
history = History(Path(sys.argv[1]))
messages = []
conversation = history.begin("question", "nano")
for number in range(20):
    messages.append(Message(Role.USER, str(number)))
    assert history.save(conversation, messages, Settings()) == conversation
assert not history.notice
"""


def test_programs_that_start_and_save_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    programs = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(path)], stdin=subprocess.PIPE)
        for _ in range(4)
    ]
    for program in programs:
        assert program.stdin
        program.stdin.close()
    assert [program.wait() for program in programs] == [0] * 4
    saved = History(path).find()
    assert [conversation.messages for conversation in saved] == [20] * 4


def test_a_locked_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    history = History(path)
    with sqlite3.connect(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LocalmtpError, match="another program has locked it") as caught:
            history.begin("question", "nano")
    assert "--no-save" in caught.value.hint
    assert history.begin("question", "nano")


def test_damaged_bytes_are_one_line_or_a_new_file(tmp_path: Path) -> None:
    intact, path = tmp_path / "intact.sqlite3", tmp_path / "h.sqlite3"
    with closing(History(intact)) as history:
        conversation_of(history, "question", "answer " * 900, "question", "answer " * 900)
    content = intact.read_bytes()
    random = Random(1)
    for number in range(100):
        damaged = bytearray(content)
        for _ in range(1 << number % 10):
            damaged[random.randrange(len(damaged) if number % 2 else 2000)] = random.randrange(256)
        path.write_bytes(damaged)
        with suppress(LocalmtpError), closing(History(path)) as history:
            for saved in history.find("answer"):
                history.save(saved.id, history.resume(saved.id)[0], SETTINGS)
            history.begin("question", "nano")
        for file in tmp_path.glob("h.sqlite3*"):
            file.unlink()
