"""Prompts on disk: restored as they were, with drafting and checkpoints; bounded; never trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.pair import LoadOptions
from localmtp.engine.stats import Stats
from localmtp.models import ModelFiles, resolve
from localmtp.models.embedded import embedded_files
from localmtp.session import Choices, Message, Role
from localmtp.session.local import LocalSession, open_session
from tests.heads import write_qwen35
from tests.pairs import TINY, write_pair

LONG = "Remember these words: " + " ".join(f"word{i}" for i in range(60)) + ". Count from 1 to 20."
MORE = "Now tell me a story about a fox."


@pytest.fixture(params=["nano", "dense", "e", "head"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> ModelFiles:
    if request.param == "nano":
        return embedded_files()
    target, drafter = tmp_path / "tiny-F32.gguf", tmp_path / "mtp-tiny-F32.gguf"
    if request.param == "head":
        write_qwen35(target)
    else:
        write_pair(TINY[request.param], target, drafter)
    return resolve(str(target))


@contextmanager
def session(files: ModelFiles, cache: Path | None, **more: int) -> Iterator[LocalSession]:
    choices = Choices(temperature=0.0, max_tokens=40, n_draft=3)
    options = LoadOptions(threads=1, context=1024, prompt_cache=cache, **more)  # type: ignore[arg-type]
    opened = open_session(files, choices, options)
    try:
        yield opened
    finally:
        opened.close()


def answered(session: LocalSession, *questions: str) -> tuple[str, Stats]:
    for question in questions:
        for _ in session.ask(question):
            pass
    return session.messages[-1].text, session.stats()


def test_a_conversation_continues_after_a_restart(files: ModelFiles, tmp_path: Path) -> None:
    with session(files, None) as plain:
        second, _ = answered(plain, LONG, MORE)
        history = [*plain.messages]
        third, expected = answered(plain, "Who are you?")
    cache = tmp_path / "cache"
    with session(files, cache) as before:
        assert answered(before, LONG, MORE)[0] == second
    with session(files, cache) as after:
        after.messages = history
        text, stats = answered(after, "Who are you?")
    assert text == third
    # Random models write bytes that are no text: their last answer is tokenized differently.
    missing = 2 if files == embedded_files() else 8
    assert stats.reused_tokens >= max(100, expected.reused_tokens - missing)
    assert stats.drafted == expected.drafted and stats.accepted == expected.accepted


def test_the_last_question_can_be_edited_after_a_restart(files: ModelFiles, tmp_path: Path) -> None:
    """With sliding windows, the cache returns to a checkpoint."""
    with session(files, None) as plain:
        first, _ = answered(plain, LONG)
        expected, _ = answered(plain, "Who are you?")
    cache = tmp_path / "cache"
    with session(files, cache) as before:
        answered(before, LONG, MORE)
    with session(files, cache) as after:
        after.messages = [Message(Role.USER, LONG), Message(Role.MODEL, first)]
        text, stats = answered(after, "Who are you?")
    assert text == expected
    assert stats.reused_tokens > 100


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "garbage", "flipped", "foreign", "header"]
)
def test_damaged_files_are_dropped(tmp_path: Path, damage: str) -> None:
    files, cache = embedded_files(), tmp_path / "cache"
    with session(files, cache) as before:
        expected, _ = answered(before, LONG)
    (path,) = cache.glob("*.prompt")
    assert path.stat().st_mode & 0o077 == 0
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-9] ^= 1
    elif damage == "foreign":
        data = data.replace(b'"key": "', b'"key": "f', 1)
    elif damage == "header":
        data[20:24] = b"\xff\xff\xff\x7f"
    kept = {"truncated": len(data) // 2, "empty": 0}.get(damage, len(data))
    path.write_bytes(b"x" * 5000 if damage == "garbage" else data[:kept])
    with session(files, cache) as after:
        text, stats = answered(after, LONG)
        (warning,) = after.warnings
    assert text == expected and stats.reused_tokens == 0
    assert f"{path} is damaged and was deleted" in warning
    with session(files, cache) as again:
        assert answered(again, LONG)[1].reused_tokens > 100
        assert not again.warnings


def test_random_damage_never_changes_an_answer(tmp_path: Path) -> None:
    files, cache = embedded_files(), tmp_path / "cache"
    with session(files, cache) as before:
        expected, _ = answered(before, LONG)
    (path,) = cache.glob("*.prompt")
    data, random = path.read_bytes(), np.random.default_rng(4)
    for _ in range(8):
        damaged = bytearray(data)
        for at in random.integers(0, len(data) if random.random() < 0.5 else 600, 3):
            damaged[at] = random.integers(0, 256)
        path.write_bytes(damaged)
        with session(files, cache) as after:
            assert answered(after, LONG)[0] == expected
        for other in cache.glob("*.prompt"):
            if other != path:
                other.unlink()


def test_other_models_and_settings_have_states_of_their_own(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    target, drafter = tmp_path / "tiny-F32.gguf", tmp_path / "mtp-tiny-F32.gguf"
    write_pair(TINY["dense"], target, drafter)
    for files in (embedded_files(), resolve(str(target)), embedded_files()):
        with session(files, cache) as opened:
            reused = answered(opened, LONG)[1].reused_tokens
    assert reused > 100
    with session(embedded_files(), cache, full_window=1) as wide:
        assert answered(wide, LONG)[1].reused_tokens == 0


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with session(embedded_files(), cache) as opened:
        answered(opened, LONG)
    (first,) = cache.glob("*.prompt")
    os.utime(first, (1, 1))
    limit = first.stat().st_size * 5 // 2
    with session(embedded_files(), cache, prompt_cache_bytes=limit) as opened:
        for topic in ("fox", "king", "ship"):
            opened.messages.clear()
            answered(opened, f"Tell me a story about a {topic}. {LONG}")
    assert not first.exists()
    sizes = [path.stat().st_size for path in cache.glob("*.prompt")]
    assert sizes and sum(sizes) <= limit
    assert not list(cache.glob("*.part"))
