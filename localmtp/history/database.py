"""The SQLite file of the saved conversations: opening, upgrading, moving a damaged one aside."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from localmtp.errors import LocalmtpError

_BUSY_S = 5.0
"""Seconds to wait for another program that writes."""

_STEPS = (
    (
        """CREATE TABLE conversation (
            id INTEGER PRIMARY KEY,
            title TEXT NOT NULL,
            model TEXT NOT NULL,
            created REAL NOT NULL,
            updated REAL NOT NULL
        )""",
        """CREATE TABLE message (
            conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,
            position INTEGER NOT NULL,
            role TEXT NOT NULL,
            text TEXT NOT NULL,
            thought TEXT NOT NULL,
            finish TEXT,
            stats TEXT,
            PRIMARY KEY (conversation, position)
        )""",
    ),
    (
        "ALTER TABLE conversation ADD COLUMN settings TEXT",
        "CREATE TABLE unsent (text TEXT NOT NULL)",
    ),
    ("ALTER TABLE conversation ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",),
    (
        # The bytes last, so that a row's key is read without them.
        "CREATE TABLE media (key TEXT PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL)",
        """CREATE TABLE attachment (
            conversation INTEGER NOT NULL,
            position INTEGER NOT NULL,
            number INTEGER NOT NULL,
            media TEXT NOT NULL REFERENCES media,
            name TEXT NOT NULL,
            PRIMARY KEY (conversation, position, number),
            FOREIGN KEY (conversation, position) REFERENCES message ON DELETE CASCADE
        )""",
        "CREATE INDEX attachment_media ON attachment (media)",
    ),
    ("ALTER TABLE message ADD COLUMN steps TEXT",),
    (
        """CREATE TABLE unsent_media (
            media TEXT NOT NULL REFERENCES media,
            name TEXT NOT NULL
        )""",
    ),
)
"""Statements that upgrade a file by one version; an empty file has version 0."""

VERSION = len(_STEPS)
"""Version of the tables, in the file's `user_version`."""

_COMPANIONS = ("-wal", "-shm")

_REASONS = {
    "SQLITE_FULL": ("the disk is full", "free some space"),
    "SQLITE_BUSY": ("another program has locked it", "close that program, or chat with --no-save"),
    "SQLITE_READONLY": ("it is read-only", "make it writable, or chat with --no-save"),
    "SQLITE_CANTOPEN": ("it cannot be opened", "check its folder, or chat with --no-save"),
    "SQLITE_CORRUPT": ("it is damaged", "move it away; a new one is started then"),
    "SQLITE_NOTADB": ("it is not a database", "move it away; a new one is started then"),
    "SQLITE_IOERR": ("the disk reports an error", "check the disk and its free space"),
}
"""Causes and hints by SQLite's primary error code."""


Failure = sqlite3.Error | OSError | UnicodeError
"""Exceptions of SQLite and the file system. Messages about damaged schemas may not be UTF-8."""

FAILURES = (sqlite3.Error, OSError, UnicodeError)


def explained(path: Path, error: Failure) -> LocalmtpError:
    """Returns the error that users see."""
    reason, hint = str(error), "chat without saving: --no-save"
    if _is_damage(error):
        reason, hint = _REASONS["SQLITE_CORRUPT"]
    elif isinstance(error, OSError):
        hint = "check its folder, or chat with --no-save"
        reason = error.strerror or reason
    else:
        code = getattr(error, "sqlite_errorname", "")
        for primary, known in _REASONS.items():
            if code.startswith(primary):
                reason, hint = known
    return LocalmtpError(f"cannot use the saved conversations in {path}: {reason}", hint=hint)


def open_database(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Opens the file, or creates it with its folder; upgrades one of an earlier version.

    A damaged file is moved aside and replaced by a new one.

    Returns:
        The connection, to be used by one thread at a time, and the damaged file's new path.

    Raises:
        LocalmtpError: the file cannot be opened or created, or is of a later version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = _identity(path)
        try:
            return _connect(path), None
        except (sqlite3.Error, UnicodeError) as error:
            if not _is_damage(error):
                # Locked, not writable, no space: the file itself is intact.
                raise
        # Another process may have replaced it meanwhile.
        aside = _moved_aside(path) if _identity(path) == before else None
        return _connect(path), aside
    except FAILURES as error:
        raise explained(path, error) from error


def _is_damage(error: Failure) -> bool:
    """Whether the file's contents are the cause; `SQLITE_ERROR` is a table that is missing."""
    if isinstance(error, UnicodeError):
        return True
    code = getattr(error, "sqlite_errorname", "")
    return code == "SQLITE_ERROR" or code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=_BUSY_S)
    try:
        # Damaged text is shown with replacement characters.
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        _use_write_ahead_log(connection)
        # Safe if the process crashes; a power cut may lose the last seconds.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        _upgrade(connection, path)
        connection.execute("SELECT count(*) FROM conversation").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Lets readers and a writer work concurrently, where the file system supports it.

    SQLite does not wait for other processes that open a new file at the same time.
    """
    for _ in range(10):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
            time.sleep(_BUSY_S / 100)


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == VERSION:
        return
    # Another process may upgrade it at the same time.
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        version = _version(connection)
        if version > VERSION:
            raise LocalmtpError(
                f"the saved conversations in {path} were written by a later version of localmtp",
                hint="upgrade localmtp, or chat with --no-save",
            )
        for statements in _STEPS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _moved_aside(path: Path) -> Path:
    """Renames a damaged file, and SQLite's files next to it, to a name that is not taken."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    path.rename(aside)
    for companion in _COMPANIONS:
        with suppress(FileNotFoundError):
            path.with_name(path.name + companion).rename(aside.with_name(aside.name + companion))
    return aside
