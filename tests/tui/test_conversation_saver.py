"""Saving the conversation on screen while the file cannot be written."""

import sqlite3
from contextlib import closing
from pathlib import Path

from localmtp.engine.pair import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.history import History
from localmtp.models import resolve
from localmtp.session import Message, Role
from localmtp.session.local import open_session
from localmtp.tui.conversation_saver import ConversationSaver


def test_an_error_is_reported_once_and_nothing_is_lost_when_saving_works_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.sqlite3"
    errors: list[LocalmtpError] = []
    saver = ConversationSaver(errors.append, lambda: None)
    saver.history = History(path)
    with closing(open_session(resolve("nano"), options=LoadOptions(threads=1))) as session:
        session.messages = [Message(Role.USER, "one"), Message(Role.MODEL, "two")]
        saver.save(session)
        with sqlite3.connect(path) as other:
            other.execute("ALTER TABLE message RENAME TO elsewhere")
        session.messages += [Message(Role.USER, "three"), Message(Role.MODEL, "four")]
        for last_only in (False, True, True, False):
            saver.save(session, last_only=last_only)
        assert len(errors) == 1
        with sqlite3.connect(path) as other:
            other.execute("ALTER TABLE elsewhere RENAME TO message")
        saver.save(session)
        assert len(errors) == 1
    assert saver.conversation_id is not None
    messages = History(path).load(saver.conversation_id)
    assert [message.text for message in messages] == ["one", "two", "three", "four"]
