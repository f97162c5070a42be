"""Damaged histories: conversations, or an error of one line, and new ones can be saved."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from localmtp.engine.events import FinishReason
from localmtp.engine.stats import Counters
from localmtp.errors import LocalmtpError
from localmtp.history import History
from localmtp.session import Message, Role, Settings
from tests.fuzz.budget import examples, one_input, peak_memory, seeds
from tests.fuzz.json_mutator import odd, raw

_PEAK_MEGABYTES = 256
_COLUMNS = (
    *(("message", name) for name in ("role", "text", "thought", "finish", "stats", "position")),
    *(("conversation", name) for name in ("title", "model", "created", "updated", "settings")),
    *(("conversation", "revision"), ("unsent", "text")),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Content of a history with two conversations."""
    path = tmp_path_factory.mktemp("history") / "history.sqlite3"
    history = History(path)
    stats = Counters(context_size=256, completion_tokens=3).snapshot()
    for text in ("one", "two"):
        number = history.begin(text, "nano")
        answer = Message(Role.MODEL, "answer", "thought", FinishReason.STOP, stats)
        history.save(number, [Message(Role.USER, text), answer], Settings(system="Be brief."))
    history.save_unsent("half a thought")
    history.close()
    return path.read_bytes()


def test_histories(tmp_path: Path, saved: bytes) -> None:
    counts = Counter[str]()
    with peak_memory(_PEAK_MEGABYTES):
        for seed in seeds(examples(40, 0.5)):
            with one_input(seed) as rng:
                path = tmp_path / f"{seed}.sqlite3"
                _damage(path, saved, rng)
                counts[_use(path)] += 1
    print(dict(counts))
    assert counts["used"]


def _damage(path: Path, saved: bytes, rng: Random) -> None:
    if rng.random() < 0.4:
        data = bytearray(saved)
        for _ in range(rng.randint(1, 30)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        return
    path.write_bytes(saved)
    with closing(sqlite3.connect(path)) as db, db:
        for table, column in rng.sample(_COLUMNS, rng.randint(1, 3)):
            value = odd(rng)
            if column in ("stats", "settings") and rng.random() < 0.7:
                (text,) = db.execute(
                    f"SELECT {column} FROM {table} WHERE {column} <> ''"
                ).fetchone()
                value = raw(json.loads(text), rng)
            elif isinstance(value, list | dict) or rng.random() < 0.2:
                value = b"\xff\xfe"
            elif isinstance(value, int) and abs(value) >= 2**63:
                value = float(value) if abs(value) < 10**300 else 0
            elif isinstance(value, str):
                value = value.encode(errors="surrogatepass")
            try:
                db.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (value,))
            except sqlite3.IntegrityError:
                continue
        if rng.random() < 0.1:
            db.execute(f"PRAGMA user_version = {rng.choice((0, 1, 2, 99, -1))}")


def _use(path: Path) -> str:
    try:
        history = History(path)
        try:
            for conversation in history.find():
                history.resume(conversation.id)
                history.load(conversation.id)
                history.rename(conversation.id, "a")
            history.take_unsent()
            number = history.begin("new", "nano")
            history.save(number, [Message(Role.USER, "new")], Settings())
            assert [message.text for message in history.load(number)] == ["new"]
            history.delete(number)
        finally:
            history.close()
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 4000
        return "refused"
    return "used"
