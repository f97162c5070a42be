"""Images and sound in a session whose model runs in a child process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from localmtp.engine.events import Event, Finished
from localmtp.engine.pair import LoadOptions
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.isolation import IsolatedSession, open_isolated
from localmtp.isolation.messages import OpenRequest
from localmtp.media import Media, media_from_bytes
from localmtp.models import resolve
from localmtp.session import Choices
from localmtp.session.local import open_session
from tests.isolation.test_session import prepared
from tests.media.samples import png, sound, tone
from tests.towers import write_towers

PICTURE = media_from_bytes(png(96, 72), "picture.png")
SOUND = media_from_bytes(sound(tone(0.8)), "sound.wav")


def opened(projector: Path) -> IsolatedSession:
    request = OpenRequest("nano", None, True, partial(prepared, 1024), projector=str(projector))
    return open_isolated(request, lambda step: None)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_towers(tmp_path_factory.mktemp("towers") / "mmproj-nano.gguf")


@pytest.fixture
def session(towers: Path) -> Iterator[IsolatedSession]:
    session = opened(towers)
    yield session
    session.close()


def finish(events: Iterator[Event]) -> Stats:
    *_, last = events
    assert isinstance(last, Finished)
    return last.stats


def test_answers_about_media_equal_those_of_a_local_session(
    session: IsolatedSession, towers: Path
) -> None:
    files = resolve("nano", projector=str(towers), offline=True)
    local = open_session(files, Choices(temperature=0.0, max_tokens=40), LoadOptions(threads=1))
    for one in (session, local):
        finish(one.ask("What is it?", [PICTURE]))
        finish(one.ask("And this?", [SOUND, PICTURE]))
        # The bytes are sent once; the conversation refers to them.
        assert one.messages[2].media == (SOUND, PICTURE)
    assert [m.text for m in session.messages] == [m.text for m in local.messages]
    assert session.stats().prompt_tokens == local.stats().prompt_tokens
    assert session.media_tokens(PICTURE) == local.media_tokens(PICTURE)
    assert session.media_tokens(SOUND) == local.media_tokens(SOUND)
    local.close()


def test_tokens_are_counted_while_an_answer_is_written(session: IsolatedSession) -> None:
    events = session.ask("Count to 40.")
    next(events)
    assert session.media_tokens(PICTURE)
    finish(events)


def test_media_that_cannot_be_read_are_one_line_and_the_session_goes_on(
    session: IsolatedSession,
) -> None:
    damaged = Media("image", PICTURE.data[:200], "cut.png")
    for use in (session.media_tokens, lambda media: session.ask("What is it?", [media])):
        with pytest.raises(LocalmtpError, match=r"cannot decode cut\.png"):
            use(damaged)
    assert session.messages == []
    assert finish(session.ask("What is it?", [PICTURE])).completion_tokens


def test_a_model_without_a_projector_says_so() -> None:
    session = opened(Path("none"))
    with pytest.raises(LocalmtpError, match=r"nano-Q8_0\.gguf has none"):
        session.media_tokens(PICTURE)
    session.close()
    with pytest.raises(LocalmtpError, match="process"):
        session.media_tokens(PICTURE)
