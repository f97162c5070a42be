"""Media of saved conversations: every file once, as long as a message uses it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from localmtp.engine.events import FinishReason
from localmtp.history import History
from localmtp.history.database import VERSION
from localmtp.media import Media
from localmtp.session import Message, Role, Settings
from tests.media.samples import png, sound, tone

PICTURE = Media("image", png(), "photo one.png")
SAME = Media("image", png(), "copy.png")
SOUND = Media("audio", sound(tone(0.1)), "voice.wav")


def question(*media: Media) -> Message:
    return Message(Role.USER, "What is it?", media=media)


def answer() -> Message:
    return Message(Role.MODEL, "A gradient.", finish=FinishReason.STOP)


def stored(history: History) -> int:
    with closing(sqlite3.connect(history.path)) as db:
        (number,) = db.execute("SELECT count(*) FROM media").fetchone()
    return int(number)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.sqlite3")


def saved(history: History, *messages: Message) -> int:
    conversation = history.begin("title", "model")
    return history.save(conversation, messages, Settings())


def test_media_are_loaded_with_their_messages_and_stored_once(history: History) -> None:
    messages = [question(PICTURE, SOUND), answer(), question(SAME), answer()]
    conversation = saved(history, *messages)
    assert history.load(conversation) == messages
    assert history.resume(conversation)[0][0].media[0].name == "photo one.png"
    assert stored(history) == 2
    history.save(conversation, [*messages, question(PICTURE)], Settings(), since=4)
    assert history.load(conversation)[4].media == (PICTURE,)
    assert stored(history) == 2


def test_media_are_deleted_with_the_last_message_that_uses_them(history: History) -> None:
    first = saved(history, question(PICTURE), answer(), question(SOUND), answer())
    second = saved(history, question(SAME))
    history.save(first, [question(PICTURE), answer()], Settings())
    assert stored(history) == 1
    history.delete(first)
    assert stored(history) == 1
    assert history.load(second)[0].media == (SAME,)
    history.save(second, [question()], Settings())
    assert stored(history) == 0


def test_the_space_of_deleted_media_is_given_back(history: History) -> None:
    large = Media("image", png() + bytes(40 << 20), "large.png")
    conversation = saved(history, question(large))
    assert history.path.stat().st_size > 40 << 20
    history.delete(conversation)
    assert history.path.stat().st_size < 1 << 20


def test_a_copy_of_a_conversation_has_its_media(history: History, tmp_path: Path) -> None:
    conversation = saved(history, question(PICTURE))
    other = History(tmp_path / "history.sqlite3")
    messages, _ = other.resume(conversation)
    history.delete(conversation)
    copy = other.save(conversation, [*messages, answer()], Settings(), since=1)
    assert copy != conversation or history.load(copy)
    assert history.load(copy)[0].media == (PICTURE,)


def test_media_that_are_missing_or_unknown_are_left_out_and_never_saved_over(
    history: History,
) -> None:
    for statement in ("UPDATE media SET kind = 'video'", "UPDATE media SET data = 7"):
        conversation = saved(history, question(PICTURE), answer())
        with closing(sqlite3.connect(history.path)) as db, db:
            db.execute(statement)
        messages, _ = history.resume(conversation)
        assert [message.media for message in messages] == [(), ()]
        assert history.save(conversation, messages, Settings()) != conversation


def test_a_file_of_the_version_before_media_is_upgraded(history: History) -> None:
    conversation = saved(history, question(), answer())
    history.close()
    with closing(sqlite3.connect(history.path)) as db, db:
        db.execute("DROP TABLE attachment")
        db.execute("DROP TABLE unsent_media")
        db.execute("DROP TABLE media")
        db.execute("ALTER TABLE message DROP COLUMN steps")
        db.execute("PRAGMA user_version = 3")
    upgraded = History(history.path)
    assert upgraded.load(conversation) == [question(), answer()]
    upgraded.save(conversation, [question(PICTURE), answer()], Settings())
    assert upgraded.load(conversation)[0].media == (PICTURE,)
    # Programs of the version before refuse a file whose version they do not know.
    assert VERSION > 3


def test_media_survive_a_kill(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from localmtp.history import History
from localmtp.media import Media
from localmtp.session import Message, Role, Settings
history = History(Path(sys.argv[1]))
conversation = history.begin("title", "model")
data = b"\\x89PNG\\r\\n\\x1a\\n" + bytes(4 << 20)
message = Message(Role.USER, "text", media=(Media("image", data, "a.png"),))
print(history.save(conversation, [message], Settings()), flush=True)
other = history.begin("lost", "model")
with history._transaction() as db:
    from localmtp.history.store import _write
    _write(db, other, [message, message], 0)
    os._exit(9)
"""
    path = tmp_path / "history.sqlite3"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 9, done.stderr
    history = History(path)
    (message,) = history.load(int(done.stdout))
    assert len(message.media[0].data) == 8 + (4 << 20)
    assert stored(history) == 1
