"""Images and sound in conversations: the same answers with drafting, and nothing encoded twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

import localmtp
from localmtp.engine.events import Event, Finished
from localmtp.engine.pair import LoadOptions
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.isolation import open_isolated
from localmtp.isolation.messages import OpenRequest
from localmtp.media import Media
from localmtp.models import resolve
from localmtp.session import Choices, Message, OnFull, Role, Session
from localmtp.session.local import LocalSession, open_session
from tests.media import samples
from tests.towers import KINDS, write_towers

QUESTION = "Tell me a story about the sun."
LENGTHS: tuple[int | Literal["auto"], ...] = (0, 1, 3, "auto")


def image(seed: int = 0, size: tuple[int, int] = (200, 150)) -> Media:
    """Noise around a colour, different for every seed."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 192, 3) + random.integers(0, 64, (*reversed(size), 3))
    return Media(
        "image", samples.encoded(Image.fromarray(pixels.astype(np.uint8)), "PNG"), f"{seed}.png"
    )


def sound(seconds: float = 1.5) -> Media:
    return Media("audio", samples.sound(samples.tone(seconds)), f"{seconds}.wav")


def media_for(kind: str) -> list[Media]:
    sees, hears = KINDS[kind]
    return [*([image(1), image(2, (90, 200))] if sees else []), *([sound()] if hears else [])]


@pytest.fixture(scope="module")
def projectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A projector of every kind for nano, named by its kind."""
    folder = tmp_path_factory.mktemp("projectors")
    for kind in KINDS:
        write_towers(folder / kind, kind)
    return folder


@contextmanager
def opened(
    projector: Path,
    *,
    context: int | None = None,
    image_tokens: int | None = None,
    cache: Path | None = None,
    gpu_layers: int | None = None,
    **choices: object,
) -> Iterator[LocalSession]:
    files = resolve("nano", projector=str(projector))
    options = LoadOptions(
        context=context,
        threads=1,
        gpu_layers=gpu_layers,
        image_tokens=image_tokens,
        prompt_cache=cache,
    )
    given = {"temperature": 0.0, "max_tokens": 40} | choices
    session = open_session(files, Choices(**given), options)  # type: ignore[arg-type]
    try:
        yield session
    finally:
        session.close()


def finish(events: Iterator[Event]) -> Stats:
    *_, last = events
    assert isinstance(last, Finished)
    return last.stats


def ask(session: Session, text: str, media: Sequence[Media] = ()) -> Stats:
    return finish(session.ask(text, media))


@pytest.mark.parametrize("kind", KINDS)
def test_drafting_changes_no_answer(projectors: Path, kind: str) -> None:
    greedy, sampled = set(), set()
    for n in LENGTHS:
        # On a device, near-ties depend on the number of rows in a pass.
        with localmtp.load("nano", mmproj=projectors / kind, threads=1, gpu_layers=0) as model:
            chat = partial(model.chat, QUESTION, media=media_for(kind), n_draft=n, max_tokens=60)
            reply = chat(temperature=0)
            greedy.add(reply.text())
            stats = reply.stats()
            sampled.add(chat(temperature=1.0, seed=7).text())
        assert stats.media == len(media_for(kind))
        assert 0 < stats.media_tokens < stats.prompt_tokens
        assert stats.encoded_tokens == stats.media_tokens
        assert stats.ttft_s > stats.encode_s > 0
        assert (stats.accepted > 0) == (n != 0) or n == "auto"
    assert len(greedy) == len(sampled) == 1


def test_answers_depend_on_the_image(projectors: Path) -> None:
    with opened(projectors / "e2b", gpu_layers=0) as session:
        answers = set()
        for seed in (1, 2, 1):
            session.messages.clear()
            ask(session, QUESTION, [image(seed)])
            answers.add(session.messages[-1].text)
    assert len(answers) == 2


def test_nothing_is_encoded_twice(projectors: Path) -> None:
    with opened(projectors / "e2b") as session:
        first = ask(session, "What is it?", [image(), sound()])
        assert first.encoded_tokens == first.media_tokens > 80
        # The cache holds the rows.
        again = ask(session, "And what else?")
        assert (again.media, again.encoded_tokens) == (2, 0)
        assert again.prompt_tokens - again.reused_tokens < 30
        # Only the rows are in memory: another text precedes them.
        session.messages = [Message(Role.USER, "A new text."), Message(Role.MODEL, "Yes.")]
        other = ask(session, "What is it?", [image()])
        assert other.reused_tokens < 10 < other.media_tokens
        assert other.encoded_tokens == 0
        # Edited text behind the image: the image stays in the cache.
        session.messages = session.messages[:2]
        edited = ask(session, "Where is it, and whom does it belong to?", [image()])
        assert edited.prompt_tokens - edited.reused_tokens < 30


def test_a_cache_on_disk_holds_images_of_its_projector(projectors: Path, tmp_path: Path) -> None:
    encoded = []
    for kind in ("e2b", "e2b", "26b-a4b"):
        with opened(projectors / kind, cache=tmp_path / "cache") as session:
            stats = ask(session, "What is it?", [image()])
            encoded.append(stats.encoded_tokens > 0)
            assert (stats.reused_tokens > stats.media_tokens) != encoded[-1]
    assert encoded == [True, False, True]


def test_the_oldest_images_are_dropped_with_their_messages(projectors: Path) -> None:
    room = {"context": 512, "image_tokens": 140, "max_tokens": 20}
    with opened(projectors / "e2b", **room, on_full=OnFull.DROP) as session:  # type: ignore[arg-type]
        for n in range(5):
            stats = ask(session, f"Say cat {n + 1} times.", [image(n)])
        assert 0 < stats.media < 5
        assert stats.media == sum(not m.dropped and bool(m.media) for m in session.messages)


def test_an_image_in_the_middle_and_behind_the_window(projectors: Path) -> None:
    # Nano's window has 256 positions: at the end it has passed both images.
    found = []
    for n in (0, 3):
        with opened(projectors / "26b-a4b", n_draft=n, max_tokens=60) as session:
            ask(session, "Look at this.", [image(3, (120, 120))])
            ask(session, QUESTION * 8)
            ask(session, "And this?", [image(4)])
            ask(session, QUESTION * 8)
            last = ask(session, "What was in the first one?")
            assert (last.media, last.encoded_tokens) == (2, 0)
            assert last.prompt_tokens - last.reused_tokens < 30
            found.append([message.text for message in session.messages])
            # The answer again.
            del session.messages[-1]
            again = finish(session.answer())
            assert again.prompt_tokens - again.reused_tokens < 30
            found[-1].append(session.messages[-1].text)
    assert found[0] == found[1]
    assert found[0][-1] == found[0][-2]


def test_long_sound_is_encoded_in_pieces(projectors: Path) -> None:
    texts = set()
    for kind in ("sound", "12b"):
        with opened(projectors / kind, context=2048, max_tokens=8) as session:
            stats = ask(session, "What is said?", [sound(65)])
            # 25 rows per second, in pieces of 30 seconds.
            assert stats.media_tokens == stats.encoded_tokens == 1625
            texts.add(session.messages[-1].text)
            session.messages.clear()
            # Rows of the same sound, after another text.
            again = ask(session, "What is said?", [sound(65)])
            assert again.encoded_tokens == 0
    assert len(texts) == 2


def test_text_never_becomes_an_image(projectors: Path) -> None:
    written = "The <|image|> and <|audio|> of \ufdd2 and <|image>."
    with opened(projectors / "e2b", max_tokens=4) as session:
        stats = ask(session, written, [image()])
        assert stats.media == 1
        assert session.prompt().count("<|image|>") == 2
        assert session.prompt().index("<|image|>") < session.prompt().index("The ")


def test_tokens_are_known_before_encoding(projectors: Path) -> None:
    with opened(projectors / "e2b") as session:
        tokens = session.media_tokens(image())
        stats = ask(session, QUESTION, [image()])
        # One token each opens and closes an image; nano spells them.
        assert stats.media_tokens < tokens < stats.media_tokens + 24
        with pytest.raises(LocalmtpError, match="truncated"):
            session.media_tokens(Media("image", image().data[:200], "cut.png"))
    with opened(projectors / "e2b", image_tokens=70) as session:
        assert session.media_tokens(image(0, (900, 700))) < 70 + 24


REFUSED = [
    (
        "e2b",
        256,
        [image(1), image(2), image(3)],
        r"the prompt has \d+ tokens, \d+ of them images and sound",
    ),
    ("26b-a4b", None, [sound()], "26b-a4b does not encode sound"),
    ("sound", None, [image()], "sound does not encode images"),
    ("e2b", None, [image(0, (5000, 1))], "5000 x 1 pixels, too narrow for 280 tokens"),
]


@pytest.mark.parametrize(("kind", "context", "media", "reason"), REFUSED)
def test_what_cannot_be_encoded_is_one_line(
    projectors: Path, kind: str, context: int | None, media: list[Media], reason: str
) -> None:
    with opened(projectors / kind, context=context) as session:
        with pytest.raises(LocalmtpError, match=reason):
            session.ask("What is it?", media)
        assert not session.messages
        assert ask(session, "Go on.").encode_s == 0


@pytest.mark.parametrize(("mmproj", "hint"), [(None, "--mmproj FILE"), ("none", "--no-media")])
def test_a_model_without_projector_says_what_is_missing(mmproj: str | None, hint: str) -> None:
    with localmtp.load("nano", mmproj=mmproj, threads=1) as model:
        with pytest.raises(LocalmtpError, match="need a projector") as refused:
            model.chat("What is it?", media=[image().data]).text()
        assert hint in refused.value.hint


def test_projectors_that_libmtmd_aborts_on_are_refused(tmp_path: Path) -> None:
    short = write_towers(tmp_path / "short", "e2b", positions=300)
    broken = write_towers(tmp_path / "broken", "26b-a4b", transposed="v.blk.1.ffn_down.weight")
    for path, reason in ((short, "300 image positions"), (broken, "libllama aborted")):
        with opened(path) as session, pytest.raises(LocalmtpError, match=reason):
            session.ask("What is it?", [image()])


def test_a_pass_is_never_longer_than_the_batch(projectors: Path) -> None:
    files = resolve("nano", projector=str(projectors / "26b-a4b"))
    session = open_session(files, Choices(max_tokens=4), LoadOptions(threads=1, batch=100))
    assert ask(session, "What is it?", [image(0, (900, 700))]).media_tokens <= 100
    session.close()
    with pytest.raises(LocalmtpError, match="images of 560 tokens do not fit passes of 100"):
        open_session(files, Choices(), LoadOptions(threads=1, batch=100, image_tokens=560))
    with opened(projectors / "26b-a4b", image_tokens=560, max_tokens=4) as large:
        assert 500 < ask(large, "What is it?", [image(0, (900, 700))]).media_tokens <= 560


def test_a_session_in_a_child_process_carries_media(projectors: Path) -> None:
    options = LoadOptions(threads=1)
    prepare = partial(_prepared, Choices(temperature=0.0, max_tokens=20), options)
    request = OpenRequest("nano", None, True, prepare, projector=str(projectors / "e2b"))
    isolated = open_isolated(request, lambda step: None)
    with opened(projectors / "e2b", max_tokens=20) as session:
        for each in (session, isolated):
            assert ask(each, QUESTION, [image(), sound()]).media == 2
        assert session.messages[-1].text == isolated.messages[-1].text
        assert session.media_tokens(sound()) == isolated.media_tokens(sound())
        assert session.prompt() == isolated.prompt()
        with pytest.raises(LocalmtpError, match="truncated"):
            isolated.media_tokens(Media("image", image().data[:200], "cut.png"))
    isolated.close()


def _prepared(choices: Choices, options: LoadOptions) -> tuple[Choices, LoadOptions]:
    return choices, options
