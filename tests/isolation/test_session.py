"""A model in a process of its own: as good as one in this process, and its end is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from localmtp.engine.events import Event, Finished, FinishReason, Generated
from localmtp.engine.pair import LoadOptions
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.isolation import ApartSession, open_apart
from localmtp.isolation.messages import Loading, Open, Starting, Step
from localmtp.isolation.process import LostError
from localmtp.models import resolve
from localmtp.session import Choices, OnFull, Role
from localmtp.session.local import open_session
from tests.pairs import TINY, write_pair

PATIENCE_S = 60.0
LONG = "Count from 3 to 40 and then say which animals live in the house. "


def prepared(context: int, **choices: object) -> tuple[Choices, LoadOptions]:
    options = LoadOptions(context=context, threads=1)
    return Choices(**({"temperature": 0.0, "max_tokens": 40} | choices)), options  # type: ignore[arg-type]


def opened(context: int = 1024, model: str = "nano", **choices: object) -> ApartSession:
    wanted = Open(model, None, True, partial(prepared, context, **choices))
    return open_apart(wanted, lambda step: None)


@pytest.fixture
def session() -> Iterator[ApartSession]:
    session = opened()
    yield session
    session.close()


def finish(events: Iterator[Event]) -> Stats:
    *_, last = events
    assert isinstance(last, Finished)
    return last.stats


def endless(session: ApartSession) -> None:
    """So hot that the turn hardly ends by itself."""
    hot = SamplingParams(temperature=10.0, top_k=0, top_p=1.0, seed=1)
    session.update_settings(replace(session.settings, sampling=hot, max_tokens=900, n_draft=0))


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if any("localmtp.isolation.child" in part for part in child.cmdline())
    ]


def wait_until(done: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < give_up, what
        time.sleep(0.02)


def test_it_says_what_a_session_here_says(session: ApartSession) -> None:
    here = open_session(resolve("nano"), *prepared(1024))
    try:
        for question in ("Count from 1 to 9.", "What is MTP?"):
            finish(session.ask(question))
            finish(here.ask(question))
        assert [m.text for m in session.messages] == [m.text for m in here.messages]
        assert session.prompt() == here.prompt()
        for name in ("name", "drafter_name", "device", "memory", "place", "settings", "placement"):
            assert getattr(session, name) == getattr(here, name)
        assert session.stats() == session.messages[-1].stats
    finally:
        here.close()


def test_every_token_comes_once_with_its_origin_and_drafts(session: ApartSession) -> None:
    events = list(session.ask("Count from 1 to 20."))
    passes = [event for event in events if isinstance(event, Generated)]
    assert len(passes) == session.stats().target_passes + 1
    assert sum(len(event.drafted) for event in passes) == session.stats().drafted
    text = "".join(piece.text for event in passes for piece in event.pieces)
    assert text == session.messages[-1].text


def test_going_back_prefills_next_to_nothing(session: ApartSession) -> None:
    finish(session.ask("Count from 1 to 9. " * 12))
    first = session.messages[-1].text
    finish(session.ask(LONG * 10))
    del session.messages[1:]
    again = finish(session.answer())
    assert again.prompt_tokens > 80
    assert again.prompt_tokens - again.reused_tokens < 10
    assert session.messages[-1].text == first


def test_a_cut_answer_is_gone_on_with(session: ApartSession) -> None:
    session.update_settings(replace(session.settings, max_tokens=30))
    finish(session.ask("Count from 1 to 30."))
    whole = session.messages[-1].text
    session.messages.clear()
    session.update_settings(replace(session.settings, max_tokens=10))
    finish(session.ask("Count from 1 to 30."))
    session.update_settings(replace(session.settings, max_tokens=20))
    finish(session.resume())
    assert session.messages[-1].text == whole
    assert len(session.messages) == 2


def test_settings_are_told_and_drafting_follows(session: ApartSession) -> None:
    assert session.drafting == "on"
    session.update_settings(replace(session.settings, n_draft=0))
    wait_until(lambda: session.drafting.startswith("off: "), "drafting is off")
    assert finish(session.ask("Hi")).drafted == 0
    assert finish(session.complete("one, two, three,")).drafted == 0


def test_cancelling_keeps_what_was_said(session: ApartSession) -> None:
    endless(session)
    events = session.complete("one, two, three,")
    for event in events:
        if isinstance(event, Generated):
            session.cancel()
            break
    *_, last = events
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    assert 0 < last.stats.completion_tokens < 900


def test_an_answer_cancelled_before_it_is_advanced_does_not_begin(session: ApartSession) -> None:
    events = session.ask(LONG)
    session.cancel()
    *_, last = events
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    assert finish(session.ask("Hi")).completion_tokens > 0


def test_an_answer_that_nobody_reads_does_not_get_into_the_next(session: ApartSession) -> None:
    asked = session.ask("Count from 1 to 30.")
    next(asked)
    asked.close()  # type: ignore[attr-defined]
    session.messages.clear()
    finish(session.ask("Count from 1 to 9."))
    second = session.messages[-1].text
    session.messages.clear()
    finish(session.ask("Count from 1 to 9."))
    assert session.messages[-1].text == second


def test_what_is_wrong_is_said_as_here(session: ApartSession) -> None:
    with pytest.raises(LocalmtpError, match="and the context 1024"):
        session.ask(LONG * 200)
    assert session.messages == []
    assert finish(session.ask("Hi")).completion_tokens > 0


def test_messages_that_are_dropped_are_marked() -> None:
    session = opened(context=256, on_full=OnFull.DROP)
    try:
        for number in range(8):
            finish(session.ask(f"Count from {number} to 9 and say which animals live there."))
        dropped = [m.dropped for m in session.messages]
        assert dropped[0]
        assert not dropped[-2]
        assert dropped == sorted(dropped, reverse=True)
    finally:
        session.close()


def test_steps_are_told_while_it_opens_and_no_model_is_one_line(tmp_path: Path) -> None:
    steps: list[Step] = []
    wanted = Open("nano", None, True, partial(prepared, 256))
    open_apart(wanted, steps.append).close()
    assert isinstance(steps[0], Starting)
    assert any(isinstance(step, Loading) and step.model == "nano" for step in steps)
    (tmp_path / "not.gguf").write_bytes(b"this is no model")
    with pytest.raises(LocalmtpError, match="not a GGUF file"):
        opened(model=str(tmp_path / "not.gguf"))
    assert not children()


class GivenUpError(Exception):
    pass


def test_giving_up_a_model_on_its_way_leaves_no_process() -> None:
    def give_up(step: Step) -> None:
        raise GivenUpError

    with pytest.raises(GivenUpError):
        open_apart(Open("nano", None, True, partial(prepared, 256)), give_up)
    assert not children()


def test_closing_keeps_what_was_learned_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    session = opened()
    finish(session.ask("Count from 1 to 20."))
    session.close()
    session.close()
    assert list((tmp_path / "localmtp" / "pacing").glob("*.json"))
    assert not children()


def test_a_killed_model_ends_the_answer_in_one_line_and_keeps_it(session: ApartSession) -> None:
    endless(session)
    (process,) = children()
    reasons = []
    cause = "exit code" if sys.platform == "win32" else "memory runs out"
    with pytest.raises(LostError, match=cause) as caught:
        for event in session.ask("Tell a long story. " * 20):
            if isinstance(event, Generated):
                process.kill()
            elif isinstance(event, Finished):
                reasons.append(event.reason)
    assert "\n" not in caught.value.message
    assert reasons == [FinishReason.LOST]
    assert session.messages[-1].role is Role.MODEL and session.messages[-1].text
    assert session.is_lost
    with pytest.raises(LostError):
        session.ask("Are you there?")


def test_a_model_that_crashes_says_how(session: ApartSession) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no signals to send")
    (process,) = children()
    process.send_signal(signal.SIGSEGV)
    with pytest.raises(LostError, match="SIGSEGV"):
        session.ask("Are you there?")


def test_an_interrupt_is_for_the_parent_alone(session: ApartSession) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no process groups to compare")
    (process,) = children()
    assert os.getpgid(process.pid) != os.getpgid(0)
    process.send_signal(signal.SIGINT)
    assert finish(session.ask("Hi")).completion_tokens > 0


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "answering"])
def test_the_model_ends_with_a_parent_that_is_killed(busy: bool) -> None:
    code = f"""
from tests.isolation.test_session import opened
session = opened(max_tokens=900, n_draft=0)
answer = session.ask("Tell a long story.")
if {busy}:
    next(answer)
print("ready", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == "zombie", "the child ends")


def test_nothing_is_imported_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    (tmp_path / "localmtp").mkdir()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    opened().close()


def test_a_tiny_model_from_a_path(tmp_path: Path) -> None:
    write_pair(TINY["dense"], tmp_path / "tiny.gguf", tmp_path / "mtp-tiny.gguf")
    session = opened(model=str(tmp_path / "tiny.gguf"))
    try:
        assert session.name == "tiny.gguf"
        assert finish(session.ask("Hi")).completion_tokens > 0
    finally:
        session.close()
