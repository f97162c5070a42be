"""Media of messages in the database: every file once, by content, as long as a message uses it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from localmtp.history.rows import text_from
from localmtp.media import Media
from localmtp.unicode import replace_surrogates

if TYPE_CHECKING:
    from localmtp.session import Message

WORTH_SHRINKING = 32 << 20
"""Unused bytes of the file from which it is rewritten after a deletion."""


def write_media(
    db: sqlite3.Connection, conversation: int, messages: Sequence[Message], since: int
) -> None:
    """Replaces the media of the messages from the index `since` on; stores what is new."""
    used = db.execute(
        "SELECT media FROM attachment WHERE conversation = ? AND position >= ?",
        (conversation, since),
    ).fetchall()
    if not used and not any(message.media for message in messages):
        return
    db.execute(
        "DELETE FROM attachment WHERE conversation = ? AND position >= ?", (conversation, since)
    )
    for position, message in enumerate(messages, since):
        for number, media in enumerate(message.media):
            _store(db, media)
            db.execute(
                "INSERT INTO attachment VALUES (?, ?, ?, ?, ?)",
                (conversation, position, number, media.key, replace_surrogates(media.name)),
            )
    delete_unused(db)


def delete_unused(db: sqlite3.Connection) -> None:
    """Deletes the files that no message uses any more, sent or not."""
    db.execute(
        "DELETE FROM media WHERE key NOT IN"
        " (SELECT media FROM attachment UNION SELECT media FROM unsent_media)"
    )


def write_unsent_media(db: sqlite3.Connection, media: Sequence[Media]) -> None:
    """Adds media that were attached and not sent."""
    for each in media:
        _store(db, each)
        db.execute(
            "INSERT INTO unsent_media VALUES (?, ?)", (each.key, replace_surrogates(each.name))
        )


def take_unsent_media(db: sqlite3.Connection) -> list[Media]:
    """Returns and removes media that were attached and not sent, in their order."""
    rows = db.execute(
        "SELECT m.kind, m.data, u.name FROM unsent_media u JOIN media m ON m.key = u.media"
        " ORDER BY u.rowid"
    ).fetchall()
    if rows:
        db.execute("DELETE FROM unsent_media")
        delete_unused(db)
    return [
        Media(kind, data, text_from(name))
        for kind, data, name in rows
        if kind in ("image", "audio") and isinstance(data, bytes)
    ]


def read_media(
    db: sqlite3.Connection, conversation: int
) -> tuple[dict[int, tuple[Media, ...]], bool]:
    """Returns the media by position of their message, and whether all of them were readable."""
    rows = db.execute(
        "SELECT a.position, a.name, m.kind, m.data FROM attachment a"
        " LEFT JOIN media m ON m.key = a.media WHERE a.conversation = ?"
        " ORDER BY a.position, a.number",
        (conversation,),
    )
    found, complete = defaultdict(list), True
    # One blob at a time: together they may be large.
    for position, name, kind, data in rows:
        if kind in ("image", "audio") and isinstance(data, bytes):
            found[position].append(Media(kind, data, text_from(name)))
        else:
            complete = False
    return {position: tuple(media) for position, media in found.items()}, complete


def shrink(db: sqlite3.Connection) -> None:
    """Gives the space of deleted media back to the disk, if it is much; not in a transaction."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (page,) = db.execute("PRAGMA page_size").fetchone()
    if free * page > WORTH_SHRINKING:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _store(db: sqlite3.Connection, media: Media) -> None:
    # Asked first: binding the bytes would copy them.
    if db.execute("SELECT 1 FROM media WHERE key = ?", (media.key,)).fetchone() is None:
        db.execute("INSERT INTO media VALUES (?, ?, ?)", (media.key, media.kind, media.data))
