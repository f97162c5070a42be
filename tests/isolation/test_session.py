"""Sessions in a child process: equal to local ones; a crash of the child is one line."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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
from localmtp.isolation import IsolatedSession, open_isolated
from localmtp.isolation.messages import Loading, OpenRequest, OpenStep, Resolving
from localmtp.isolation.process import ProcessLostError
from localmtp.models import resolve
from localmtp.session import Choices, OnFull, Role
from localmtp.session.local import open_session
from tests.folders import move_user_folders
from tests.pairs import TINY, write_pair

PATIENCE_S = 60.0
LONG = "Count from 3 to 40 and then say which animals live in the house. "


def prepared(context: int, **choices: object) -> tuple[Choices, LoadOptions]:
    options = LoadOptions(context=context, threads=1)
    return Choices(**({"temperature": 0.0, "max_tokens": 40} | choices)), options  # type: ignore[arg-type]


def opened(context: int = 1024, model: str = "nano", **choices: object) -> IsolatedSession:
    request = OpenRequest(model, None, True, partial(prepared, context, **choices))
    return open_isolated(request, lambda step: None)


@pytest.fixture
def session() -> Iterator[IsolatedSession]:
    session = opened()
    yield session
    session.close()


def finish(events: Iterator[Event]) -> Stats:
    *_, last = events
    assert isinstance(last, Finished)
    return last.stats


def make_endless(session: IsolatedSession) -> None:
    """A temperature at which the model rarely ends its turn."""
    hot = SamplingParams(temperature=10.0, top_k=0, top_p=1.0, seed=1)
    session.update_settings(replace(session.settings, sampling=hot, max_tokens=900, n_draft=0))


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if any("localmtp.isolation.child" in part for part in child.cmdline())
    ]


def wait_until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_answers_equal_those_of_a_local_session(session: IsolatedSession) -> None:
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


def test_every_token_arrives_once_with_its_origin_and_drafts(session: IsolatedSession) -> None:
    events = list(session.ask("Count from 1 to 20."))
    passes = [event for event in events if isinstance(event, Generated)]
    assert len(passes) == session.stats().target_passes + 1
    assert sum(len(event.drafted) for event in passes) == session.stats().drafted
    text = "".join(piece.text for event in passes for piece in event.pieces)
    assert text == session.messages[-1].text


def test_going_back_reuses_the_prompt(session: IsolatedSession) -> None:
    finish(session.ask("Count from 1 to 9. " * 12))
    first = session.messages[-1].text
    finish(session.ask(LONG * 10))
    del session.messages[1:]
    again = finish(session.answer())
    assert again.prompt_tokens > 80
    assert again.prompt_tokens - again.reused_tokens < 10
    assert session.messages[-1].text == first


def test_a_cut_answer_is_continued(session: IsolatedSession) -> None:
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


def test_updated_settings_reach_the_child(session: IsolatedSession) -> None:
    assert session.drafting == "on"
    session.update_settings(replace(session.settings, n_draft=0))
    wait_until(lambda: session.drafting.startswith("off: "), "drafting is off")
    assert finish(session.ask("Hi")).drafted == 0
    assert finish(session.complete("one, two, three,")).drafted == 0


def test_a_cancelled_answer_is_retained(session: IsolatedSession) -> None:
    make_endless(session)
    events = session.complete("one, two, three,")
    for event in events:
        if isinstance(event, Generated):
            session.cancel()
            break
    *_, last = events
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    assert 0 < last.stats.completion_tokens < 900


def test_an_answer_cancelled_before_its_first_event_stays_empty(session: IsolatedSession) -> None:
    events = session.ask(LONG)
    session.cancel()
    *_, last = events
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    assert finish(session.ask("Hi")).completion_tokens > 0


def test_an_abandoned_answer_does_not_leak_into_the_next(session: IsolatedSession) -> None:
    asked = session.ask("Count from 1 to 30.")
    next(asked)
    asked.close()  # type: ignore[attr-defined]
    session.messages.clear()
    finish(session.ask("Count from 1 to 9."))
    second = session.messages[-1].text
    session.messages.clear()
    finish(session.ask("Count from 1 to 9."))
    assert session.messages[-1].text == second


def test_errors_equal_those_of_a_local_session(session: IsolatedSession) -> None:
    with pytest.raises(LocalmtpError, match="and the context 1024"):
        session.ask(LONG * 200)
    assert session.messages == []
    assert finish(session.ask("Hi")).completion_tokens > 0


def test_dropped_messages_are_marked() -> None:
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


def test_steps_are_reported_while_loading_and_a_bad_file_is_one_line(tmp_path: Path) -> None:
    steps: list[OpenStep] = []
    request = OpenRequest("nano", None, True, partial(prepared, 256))
    open_isolated(request, steps.append).close()
    assert isinstance(steps[0], Resolving)
    assert any(isinstance(step, Loading) and step.model == "nano" for step in steps)
    (tmp_path / "not.gguf").write_bytes(b"this is no model")
    with pytest.raises(LocalmtpError, match="not a GGUF file"):
        opened(model=str(tmp_path / "not.gguf"))
    assert not children()


class AbortedError(Exception):
    pass


def test_aborting_a_load_leaves_no_process() -> None:
    def abort(step: OpenStep) -> None:
        raise AbortedError

    with pytest.raises(AbortedError):
        open_isolated(OpenRequest("nano", None, True, partial(prepared, 256)), abort)
    assert not children()


def test_closing_saves_pacing_data_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_user_folders(monkeypatch, tmp_path, "STATE")
    session = opened()
    finish(session.ask("Count from 1 to 20."))
    session.close()
    session.close()
    assert list((tmp_path / "localmtp" / "pacing").glob("*.json"))
    assert not children()


def test_a_killed_child_ends_the_answer_with_one_line_and_retains_it(
    session: IsolatedSession,
) -> None:
    make_endless(session)
    (process,) = children()
    reasons = []
    cause = "exit code" if sys.platform == "win32" else "memory ran out"
    with pytest.raises(ProcessLostError, match=cause) as caught:
        for event in session.ask("Tell a long story. " * 20):
            if isinstance(event, Generated):
                process.kill()
            elif isinstance(event, Finished):
                reasons.append(event.reason)
    assert "\n" not in caught.value.message
    assert reasons == [FinishReason.LOST]
    assert session.messages[-1].role is Role.MODEL and session.messages[-1].text
    assert session.is_lost
    with pytest.raises(ProcessLostError):
        session.ask("Are you there?")


def test_a_crash_names_the_signal(session: IsolatedSession) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no signals to send")
    (process,) = children()
    process.send_signal(signal.SIGSEGV)
    with pytest.raises(ProcessLostError, match="SIGSEGV"):
        session.ask("Are you there?")


def test_an_interrupt_does_not_reach_the_child(session: IsolatedSession) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no process groups to compare")
    (process,) = children()
    assert os.getpgid(process.pid) != os.getpgid(0)
    process.send_signal(signal.SIGINT)
    assert finish(session.ask("Hi")).completion_tokens > 0


def aborting() -> tuple[Choices, LoadOptions]:
    os.write(2, b"GGML_ASSERT(n > 0) failed\nmore lines\n")
    os.abort()


def exiting() -> tuple[Choices, LoadOptions]:
    os._exit(3)


def leaving() -> tuple[Choices, LoadOptions]:
    sys.exit("a reason")


def out_of_memory() -> tuple[Choices, LoadOptions]:
    raise MemoryError


def failing() -> tuple[Choices, LoadOptions]:
    raise ValueError("several\nlines")


def flooding() -> tuple[Choices, LoadOptions]:
    for _ in range(1000):
        os.write(2, b"noise " * 10_000)
    os.write(2, b"\nerror: the end\n")
    os._exit(4)


def sending_garbage() -> tuple[Choices, LoadOptions]:
    for descriptor in range(3, 100):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"\0\0\0\4oops")
    time.sleep(PATIENCE_S)
    return prepared(256)


@pytest.mark.skipif(sys.platform == "win32", reason="signals and descriptors of POSIX")
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (aborting, r"signal SIGABRT\): GGML_ASSERT\(n > 0\) failed$"),
        (exiting, r"exit code 3\)$"),
        (leaving, r"exit code 1\): a reason$"),
        (out_of_memory, "not enough memory"),
        (failing, "ValueError: several lines"),
        (flooding, r"exit code 4\): error: the end$"),
        (sending_garbage, "did not respond"),
    ],
)
def test_whatever_ends_a_child_while_it_loads_is_one_line(
    prepare: Callable[[], tuple[Choices, LoadOptions]], said: str
) -> None:
    with pytest.raises(LocalmtpError, match=said) as caught:
        open_isolated(OpenRequest("nano", None, True, prepare), lambda step: None)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert not children()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process")
def test_a_child_that_hangs_is_ended_by_a_second_cancellation(
    session: IsolatedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmtp.isolation.session.UNRESPONSIVE_S", 0.0)
    make_endless(session)
    (process,) = children()
    events = session.ask(LONG)
    while not isinstance(next(events), Generated):
        pass
    process.suspend()
    session.cancel()
    session.cancel()
    with pytest.raises(ProcessLostError, match="did not respond"):
        list(events)
    assert session.messages[-1].finish is FinishReason.LOST
    assert not children()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process")
def test_closing_ends_a_child_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localmtp.isolation.process.CLOSING_S", 0.1)
    session = opened()
    (process,) = children()
    process.suspend()
    session.close()
    assert not children()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "answering"])
def test_the_child_exits_when_its_parent_is_killed(busy: bool) -> None:
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


def test_nothing_is_imported_from_the_working_directory(
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
