"""Saved conversations: what was written survives whatever ends the program."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from localmtp.engine.events import FinishReason
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Counters
from localmtp.errors import LocalmtpError
from localmtp.history import History
from localmtp.history.store import LONGEST_TITLE
from localmtp.session import Message, OnFull, Role, Settings

SETTINGS = Settings(SamplingParams(0.5, seed=7), 3, 100, "Be brief.", True, OnFull.DROP)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "deep" / "history.sqlite3")


def test_messages_come_back_as_they_were(history: History) -> None:
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


def test_what_was_not_sent_is_kept_until_it_is_taken(history: History) -> None:
    assert history.take_unsent() == ""
    history.keep_unsent("half a\nthought")
    assert history.take_unsent() == "half a\nthought"
    assert history.take_unsent() == ""


def test_a_file_of_the_first_version_gains_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    history = History(path)
    old = history.begin("old", "nano")
    history.save(old, [Message(Role.USER, "text")], SETTINGS)
    history.close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "ALTER TABLE conversation DROP COLUMN settings; DROP TABLE unsent;"
            "PRAGMA user_version = 1"
        )
    history = History(path)
    assert [message.text for message in history.load(old)] == ["text"]
    assert history.settings(old) is None
    history.save(old, [], SETTINGS)
    assert history.settings(old) == SETTINGS


def test_an_answer_that_was_being_written_comes_back_as_stopped(history: History) -> None:
    conversation = history.begin("question", "nano")
    history.save(
        conversation, [Message(Role.USER, "question"), Message(Role.MODEL, "half an")], SETTINGS
    )
    assert history.load(conversation)[1].finish is FinishReason.CANCELLED


def test_finding_by_words_in_titles_and_messages(history: History) -> None:
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
    assert len(history.find()[0].title) == LONGEST_TITLE
    history.rename(conversation, "better")
    assert history.find()[0].title == "better"
    history.delete(conversation)
    assert history.find() == []
    assert history.load(conversation) == []


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    path.write_bytes(b"no database at all, " * 500)
    history = History(path)
    (aside,) = tmp_path.glob("*.damaged-*")
    assert str(aside) in history.notice
    assert aside.read_bytes().startswith(b"no database")
    history.save(history.begin("new", "nano"), [Message(Role.USER, "text")], SETTINGS)
    assert [saved.title for saved in history.find()] == ["new"]


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
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


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LocalmtpError, match="cannot open the saved conversations") as caught:
        History(tmp_path / "file" / "history.sqlite3")
    assert caught.value.hint


def test_what_was_saved_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    code = f"""
import os
from pathlib import Path
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
