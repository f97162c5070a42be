"""Conversations on disk: saved as they grow, in one SQLite file.

Every write is a transaction with a write-ahead log: a process that is killed loses at most what
came after its last save.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.errors import LocalmtpError
from localmtp.history.database import FAILURES, explained, open_database
from localmtp.history.media_rows import (
    delete_unused,
    read_media,
    shrink,
    take_unsent_media,
    write_media,
    write_unsent_media,
)
from localmtp.history.rows import (
    MESSAGE_COLUMNS,
    message_row,
    messages_from,
    number_from,
    settings_from,
    settings_row,
    text_from,
)
from localmtp.unicode import replace_surrogates

if TYPE_CHECKING:
    from localmtp.media import Media
    from localmtp.session import Message, Settings

_FOREIGN = -2
"""Revision of a conversation that must not be saved over; no file contains it."""

_MAX_REVISION = 1 << 62
"""Far above what can be reached; SQLite's integers have 64 bits."""

MAX_TITLE = 60
"""Longest title, in characters."""


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """A saved conversation, in a list."""

    id: int
    title: str
    model: str
    updated: float
    """Seconds since the epoch."""
    messages: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A conversation as this process last saw it."""

    title: str
    model: str
    revision: int
    """Number of saves, or `_FOREIGN`."""


class History:
    """The saved conversations; may be used from any thread, and by several programs at a time.

    A damaged file is moved aside and a new one started; `notice` then says so.

    Args:
        path: of the file; created, with its folder, if it is missing.

    Raises:
        LocalmtpError: the file cannot be opened or created, or is of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice = ""
        """One line for the user; empty as a rule."""
        self._lock = threading.RLock()
        self._known: dict[int, _Known] = {}
        """Conversations that are being written here, by id."""
        self._connection, aside = open_database(path)
        if aside:
            self.notice = f"the saved conversations were damaged; the file was renamed to {aside}"

    def begin(self, title: str, model: str) -> int:
        """Creates a conversation and returns its id.

        Args:
            title: its first line is used.
            model: name of the model.
        """
        known = _Known(_title(title), replace_surrogates(model), 0)
        with self._lock:
            with self._transaction() as db:
                conversation = _create(db, known)
            self._known[conversation] = known
        return conversation

    def save(
        self,
        conversation: int,
        messages: Sequence[Message],
        settings: Settings,
        *,
        since: int = 0,
    ) -> int:
        """Replaces the saved messages and settings.

        Args:
            conversation: its id.
            messages: all of them.
            settings: of the next answer.
            since: index of the first message that may have changed since the last save.

        Returns:
            The id that it was saved under. It is that of a new conversation, a copy, if another
            program has changed or deleted the conversation since it was begun, resumed or saved
            here; the changes of both are retained.

        Raises:
            LocalmtpError: it cannot be written.
        """
        with self._lock:
            with self._transaction() as db:
                known = self._known.get(conversation) or _read_known(db, conversation)
                if known is None:
                    raise LocalmtpError(f"there is no saved conversation {conversation}")
                known = replace(known, revision=known.revision + 1)
                if not _claim(db, conversation, known, settings):
                    known = _Known(_title(f"{known.title} (copy)"), known.model, 1)
                    conversation, since = _create(db, known), 0
                    _claim(db, conversation, known, settings)
                _write(db, conversation, messages[since:], since)
            self._known[conversation] = known
        return conversation

    def resume(self, conversation: int) -> tuple[list[Message], Settings | None]:
        """Loads a conversation that will be continued, and saved, here.

        Returns:
            Its messages, none if there is no conversation of that id; and the settings of its next
            answer, None if they were not saved.
        """
        with self._lock, self._transaction() as db:
            # One snapshot for all that is read.
            db.execute("BEGIN")
            messages, complete = _read_messages(db, conversation)
            if known := _read_known(db, conversation):
                # Saving over messages of a later version would lose them: never match.
                revision = known.revision if complete else _FOREIGN
                self._known[conversation] = replace(known, revision=revision)
            return messages, _read_settings(db, conversation)

    def find(self, words: str = "") -> list[SavedConversation]:
        """Returns conversations whose title or messages contain every word, the latest first."""
        conditions = "".join(
            " AND (c.title LIKE ? ESCAPE '\\' OR EXISTS (SELECT 1 FROM message m"
            " WHERE m.conversation = c.id AND m.text LIKE ? ESCAPE '\\'))"
            for _ in words.split()
        )
        patterns = [pattern for word in words.split() for pattern in [_pattern(word)] * 2]
        with self._transaction() as db:
            rows = db.execute(
                "SELECT c.id, c.title, c.model, c.updated,"
                " (SELECT count(*) FROM message m WHERE m.conversation = c.id)"
                f" FROM conversation c WHERE 1{conditions} ORDER BY c.updated DESC, c.id DESC",
                patterns,
            ).fetchall()
        return [
            SavedConversation(
                identity, text_from(title), text_from(model), number_from(updated), count
            )
            for identity, title, model, updated, count in rows
        ]

    def load(self, conversation: int) -> list[Message]:
        """Returns the messages of a conversation; none if there is none of that id."""
        with self._transaction() as db:
            return _read_messages(db, conversation)[0]

    def settings(self, conversation: int) -> Settings | None:
        """Returns the settings of a conversation's next answer; None if they were not saved."""
        with self._transaction() as db:
            return _read_settings(db, conversation)

    def save_unsent(self, text: str, media: Sequence[Media] = ()) -> None:
        """Saves what was typed and attached, and not sent, for the next chat."""
        with self._transaction() as db:
            if text:
                db.execute("INSERT INTO unsent VALUES (?)", (replace_surrogates(text),))
            write_unsent_media(db, media)

    def take_unsent(self) -> str:
        """Returns and removes the saved unsent text; empty as a rule."""
        with self._transaction() as db:
            rows = db.execute("SELECT text FROM unsent ORDER BY rowid").fetchall()
            if rows:
                db.execute("DELETE FROM unsent")
        return "\n".join(text_from(text) for (text,) in rows)

    def take_unsent_media(self) -> list[Media]:
        """Returns and removes the saved media that were not sent; empty as a rule."""
        with self._transaction() as db:
            return take_unsent_media(db)

    def rename(self, conversation: int, title: str) -> None:
        """Replaces a conversation's title."""
        with self._transaction() as db:
            db.execute(
                "UPDATE conversation SET title = ? WHERE id = ?", (_title(title), conversation)
            )

    def delete(self, conversation: int) -> None:
        """Deletes a conversation; one that is being written in another program is saved again."""
        with self._transaction() as db:
            db.execute("DELETE FROM conversation WHERE id = ?", (conversation,))
            delete_unused(db)
        with self._lock, suppress(sqlite3.Error):
            # Another program that reads it prevents this; a later deletion tries again.
            shrink(self._connection)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._connection:
                yield self._connection
        except FAILURES as error:
            raise explained(self.path, error) from error


def _create(db: sqlite3.Connection, known: _Known) -> int:
    now = time.time()
    row = db.execute(
        "INSERT INTO conversation (title, model, created, updated) VALUES (?, ?, ?, ?)",
        (known.title, known.model, now, now),
    )
    return int(row.lastrowid or 0)


def _claim(db: sqlite3.Connection, conversation: int, known: _Known, settings: Settings) -> bool:
    """Updates a conversation to the revision of `known`; False if it is not the one before."""
    updated = db.execute(
        "UPDATE conversation SET revision = ?, updated = ?, settings = ?"
        " WHERE id = ? AND revision = ?",
        (known.revision, time.time(), settings_row(settings), conversation, known.revision - 1),
    )
    return updated.rowcount > 0


def _write(
    db: sqlite3.Connection, conversation: int, messages: Sequence[Message], since: int
) -> None:
    """Replaces the messages from the index `since` on."""
    rows = [
        (conversation, position, *message_row(message))
        for position, message in enumerate(messages, since)
    ]
    db.executemany(
        f"INSERT INTO message (conversation, position, {MESSAGE_COLUMNS})"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET role = excluded.role, text = excluded.text,"
        " thought = excluded.thought, finish = excluded.finish, stats = excluded.stats,"
        " steps = excluded.steps",
        rows,
    )
    removed = db.execute(
        "DELETE FROM message WHERE conversation = ? AND position >= ?",
        (conversation, since + len(rows)),
    )
    write_media(db, conversation, messages, since)
    if removed.rowcount:
        delete_unused(db)


def _read_known(db: sqlite3.Connection, conversation: int) -> _Known | None:
    row = db.execute(
        "SELECT title, model, revision FROM conversation WHERE id = ?", (conversation,)
    ).fetchone()
    if row is None:
        return None
    title, model, revision = row
    countable = isinstance(revision, int) and 0 <= revision < _MAX_REVISION
    return _Known(text_from(title), text_from(model), revision if countable else _FOREIGN)


def _read_messages(db: sqlite3.Connection, conversation: int) -> tuple[list[Message], bool]:
    rows = db.execute(
        f"SELECT position, {MESSAGE_COLUMNS} FROM message WHERE conversation = ? ORDER BY position",
        (conversation,),
    ).fetchall()
    messages, known = messages_from([row[1:] for row in rows])
    media, complete = read_media(db, conversation)
    for (position, *_), message in zip(rows, messages, strict=True):
        message.media = media.get(position, ())
    return messages, known and complete


def _read_settings(db: sqlite3.Connection, conversation: int) -> Settings | None:
    row = db.execute("SELECT settings FROM conversation WHERE id = ?", (conversation,)).fetchone()
    return settings_from(row[0]) if row else None


def _title(text: str) -> str:
    """Returns the first line that is not blank, shortened."""
    lines = replace_surrogates(text).splitlines()
    line = next((line.strip() for line in lines if line.strip()), "untitled")
    return line if len(line) <= MAX_TITLE else line[: MAX_TITLE - 1].rstrip() + "…"


def _pattern(word: str) -> str:
    """Returns a pattern of LIKE that matches a word anywhere."""
    word = replace_surrogates(word)
    for special in "\\%_":
        word = word.replace(special, f"\\{special}")
    return f"%{word}%"
