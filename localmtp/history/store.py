"""Conversations on disk: saved as they grow, in one SQLite file.

Every write is a transaction in write-ahead mode: a process that is killed loses at most
what came after its last save.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localmtp.engine.events import FinishReason
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.session import Message, Settings

VERSION = 2
"""Of the tables; a file with a later one was written by a later localmtp."""

LONGEST_TITLE = 60

_SCHEMA = """
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    model TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL
);
CREATE TABLE message (
    conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,
    position INTEGER NOT NULL,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    thought TEXT NOT NULL,
    finish TEXT,
    stats TEXT,
    PRIMARY KEY (conversation, position)
);
"""

_SINCE_2 = """
ALTER TABLE conversation ADD COLUMN settings TEXT;
CREATE TABLE unsent (text TEXT NOT NULL);
"""

_STEPS = (_SCHEMA, _SINCE_2)
"""What each version added; a file goes through those that it lacks."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A conversation in a list."""

    id: int
    title: str
    model: str
    updated: float
    """Seconds since the epoch."""
    messages: int


class History:
    """The saved conversations; may be used from any thread.

    A damaged file is set aside and a new one begun; `notice` then says so.

    Args:
        path: of the file; made, with its folder, when missing.

    Raises:
        LocalmtpError: the file cannot be opened or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice = ""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise LocalmtpError(
                f"cannot open the saved conversations in {path}: {error}",
                hint="chat without saving: --no-save",
            ) from error

    def begin(self, title: str, model: str) -> int:
        """Makes a conversation and returns its id.

        Args:
            title: what it is about; the first line counts.
            model: its name.
        """
        now = time.time()
        with self._transaction() as db:
            row = db.execute(
                "INSERT INTO conversation (title, model, created, updated) VALUES (?, ?, ?, ?)",
                (_title(title), model, now, now),
            )
            return int(row.lastrowid or 0)

    def save(
        self,
        conversation: int,
        messages: Sequence[Message],
        settings: Settings,
        *,
        since: int = 0,
    ) -> None:
        """Makes the saved messages and settings equal to these.

        Args:
            conversation: its id.
            messages: all of them.
            settings: how answers are generated now.
            since: the first message that may have changed.
        """
        rows = [
            (conversation, position, message.role, message.text, message.thought, *_ending(message))
            for position, message in enumerate(messages[since:], since)
        ]
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET role = excluded.role, text = excluded.text,"
                " thought = excluded.thought, finish = excluded.finish, stats = excluded.stats",
                rows,
            )
            db.execute(
                "DELETE FROM message WHERE conversation = ? AND position >= ?",
                (conversation, since + len(rows)),
            )
            db.execute(
                "UPDATE conversation SET updated = ?, settings = ? WHERE id = ?",
                (time.time(), json.dumps(asdict(settings)), conversation),
            )

    def find(self, words: str = "") -> list[Saved]:
        """Conversations whose title or messages contain every word, the latest first."""
        wanted = "".join(
            " AND (c.title LIKE ? ESCAPE '\\' OR EXISTS (SELECT 1 FROM message m"
            " WHERE m.conversation = c.id AND m.text LIKE ? ESCAPE '\\'))"
            for _ in words.split()
        )
        patterns = [pattern for word in words.split() for pattern in [_pattern(word)] * 2]
        with self._transaction() as db:
            rows = db.execute(
                "SELECT c.id, c.title, c.model, c.updated,"
                " (SELECT count(*) FROM message m WHERE m.conversation = c.id)"
                f" FROM conversation c WHERE 1{wanted} ORDER BY c.updated DESC, c.id DESC",
                patterns,
            ).fetchall()
        return [Saved(*row) for row in rows]

    def load(self, conversation: int) -> list[Message]:
        """The messages of a conversation; empty if there is none of that id."""
        from localmtp.session import Message, Role

        with self._transaction() as db:
            rows = db.execute(
                "SELECT role, text, thought, finish, stats FROM message"
                " WHERE conversation = ? ORDER BY position",
                (conversation,),
            ).fetchall()
        return [
            Message(Role(role), text, thought, _ended(role, finish), _stats(stats))
            for role, text, thought, finish, stats in rows
        ]

    def settings(self, conversation: int) -> Settings | None:
        """How its answers were generated last; None where that was not saved."""
        with self._transaction() as db:
            row = db.execute(
                "SELECT settings FROM conversation WHERE id = ?", (conversation,)
            ).fetchone()
        return _settings(row[0]) if row and row[0] else None

    def keep_unsent(self, text: str) -> None:
        """Stores what was typed and not sent, until it is taken."""
        with self._transaction() as db:
            db.execute("INSERT INTO unsent VALUES (?)", (text,))

    def take_unsent(self) -> str:
        """What was typed and not sent when the chat last ended; empty as a rule."""
        with self._transaction() as db:
            texts = [text for (text,) in db.execute("SELECT text FROM unsent ORDER BY rowid")]
            db.execute("DELETE FROM unsent")
        return "\n".join(texts)

    def rename(self, conversation: int, title: str) -> None:
        """Gives a conversation another title."""
        with self._transaction() as db:
            db.execute(
                "UPDATE conversation SET title = ? WHERE id = ?", (_title(title), conversation)
            )

    def delete(self, conversation: int) -> None:
        """Forgets a conversation."""
        with self._transaction() as db:
            db.execute("DELETE FROM conversation WHERE id = ?", (conversation,))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._connection:
                yield self._connection
        except sqlite3.Error as error:
            raise LocalmtpError(
                f"the saved conversations in {self.path} cannot be used: {error}",
                hint="free some space on the disk, or move the file away",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            return _opened(self.path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                # Locked, not writable, no space: nothing is wrong with the file itself.
                raise
            aside = self.path.with_name(
                f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
            )
            self.path.rename(aside)
            for companion in ("-wal", "-shm"):
                self.path.with_name(self.path.name + companion).unlink(missing_ok=True)
            self.notice = f"the saved conversations were damaged; they are kept in {aside}"
            return _opened(self.path)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # Safe against a crash of the process; only a power cut may cost the last seconds.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise sqlite3.OperationalError("it was written by a later version of localmtp")
        if version < VERSION:
            steps = "".join(_STEPS[version:])
            connection.executescript(f"BEGIN;{steps}PRAGMA user_version = {VERSION};COMMIT;")
        connection.execute("SELECT count(*) FROM conversation").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _title(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "untitled")
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1].rstrip() + "…"


def _pattern(word: str) -> str:
    for special in "\\%_":
        word = word.replace(special, f"\\{special}")
    return f"%{word}%"


def _ending(message: Message) -> tuple[str | None, str | None]:
    stats = json.dumps(message.stats.as_dict()) if message.stats else None
    return message.finish, stats


def _ended(role: str, finish: str | None) -> FinishReason | None:
    if finish:
        return FinishReason(finish)
    # The process ended while it was written.
    return FinishReason.CANCELLED if role == "model" else None


def _settings(stored: str) -> Settings:
    """Settings that a later version has and this one lacks are left out."""
    from localmtp.engine.sampling.params import SamplingParams
    from localmtp.session import OnFull, Settings

    fields = json.loads(stored)
    sampling = fields.pop("sampling", {})
    known = {name: fields[name] for name in Settings.__dataclass_fields__ if name in fields}
    if "on_full" in known:
        known["on_full"] = OnFull(known["on_full"])
    kept = {
        name: sampling[name] for name in SamplingParams.__dataclass_fields__ if name in sampling
    }
    return Settings(sampling=SamplingParams(**kept), **known)


def _stats(stored: str | None) -> Stats | None:
    if not stored:
        return None
    fields = json.loads(stored)
    if fields.keys() != Stats.__dataclass_fields__.keys():
        # Stored by a version that measured other things.
        return None
    by_position = tuple(fields.pop("acceptance_by_position"))
    return Stats(acceptance_by_position=by_position, time=TimeSpent(**fields.pop("time")), **fields)
