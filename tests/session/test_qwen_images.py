"""Images on Qwen 3.5, whose positions have several axes: Python, conversations, limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import localmtp
from localmtp.engine.events import Finished
from localmtp.engine.pair import LoadOptions
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.models import resolve
from localmtp.models.gguf_header import read_header
from localmtp.models.memory.estimate import Weights, estimate_memory
from localmtp.models.memory.shape import shape_of
from localmtp.session import Choices, Message, Role
from localmtp.session.local import LocalSession, open_session
from tests.heads import write_qwen35
from tests.media import samples
from tests.towers import write_towers

QUESTION = "what is in these pictures"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its head; its projector is next to it."""
    folder = tmp_path_factory.mktemp("qwen")
    write_qwen35(folder / "tiny-qwen-F32.gguf", media=True)
    write_towers(folder / "mmproj-tiny-qwen-F32.gguf", "qwen", width=64)
    return folder / "tiny-qwen-F32.gguf"


def image(width: int = 300, height: int = 200) -> Media:
    return Media("image", samples.png(width, height), f"{width} x {height}.png")


@contextmanager
def opened(model: Path, **options: object) -> Iterator[LocalSession]:
    given = replace(LoadOptions(threads=1), **options)  # type: ignore[arg-type]
    session = open_session(resolve(str(model)), Choices(temperature=0.0, max_tokens=30), given)
    try:
        yield session
    finally:
        session.close()


def ask(session: LocalSession, text: str, media: Sequence[Media] = ()) -> Stats:
    *_, last = session.ask(text, media)
    assert isinstance(last, Finished)
    return last.stats


def test_drafting_changes_no_answer(model: Path) -> None:
    greedy, sampled = set(), set()
    with localmtp.load(str(model), threads=1) as loaded:
        for n in (0, 1, 3, None):
            media = [image(), image(90, 260)]
            reply = loaded.chat(QUESTION, media=media, n_draft=n, temperature=0, max_tokens=60)
            greedy.add(reply.text())
            stats = reply.stats()
            seeded = loaded.chat(
                QUESTION, media=media, n_draft=n, temperature=1.0, seed=7, max_tokens=60
            )
            sampled.add(seeded.text())
            assert stats.media == 2
            assert stats.prompt_tokens > stats.media_tokens > 130
            assert stats.accepted > 0 or not n
    assert len(greedy) == len(sampled) == 1


def test_a_conversation_prefills_no_image_twice(model: Path) -> None:
    with opened(model) as session:
        first = ask(session, "look at this one", [image()])
        assert first.encoded_tokens == first.media_tokens == 70
        again = ask(session, "and at this one", [image(90, 260)])
        assert again.encoded_tokens == again.media_tokens - 70
        assert again.reused_tokens > 70
        said = ask(session, "which of them is larger")
        assert said.reused_tokens > said.media_tokens
        text = session.messages[-1].text
        del session.messages[-1]
        *_, last = session.answer()  # regenerated
        assert session.messages[-1].text == text
        assert isinstance(last, Finished) and last.stats.reused_tokens > last.stats.media_tokens
        del session.messages[-2:]
        edited = ask(session, "which of them is smaller, and by how much")
        assert edited.reused_tokens > edited.media_tokens and edited.encoded_tokens == 0
        edited_text = session.messages[-1].text
        messages = session.messages[:-1]
    with opened(model) as session:
        session.messages = messages
        assert isinstance([*session.answer()][-1], Finished)
        assert session.messages[-1].text == edited_text


def test_written_placeholders_stay_text(model: Path) -> None:
    with opened(model) as session:
        stats = ask(session, "<|vision_start|><|image_pad|><|vision_end|>", [image()])
        assert stats.media == 1
        assert stats.media_tokens == 70


def test_images_keep_their_size_within_limits(model: Path) -> None:
    """Sizes are those of Qwen's processor with 64 to 1,024 tokens."""
    sizes = {(8, 8): 64, (32, 2000): 128, (640, 480): 300, (1024, 1024): 1024, (2000, 1500): 972}
    with opened(model) as session:
        for size, tokens in sizes.items():
            assert session.media_tokens(image(*size)) == tokens + 2  # with those around them


def test_limits_of_tokens(model: Path) -> None:
    with opened(model, image_tokens=4096) as session:
        assert session.media_tokens(image(2400, 2000)) > 4000
    with opened(model, image_tokens=140, batch=64, context=512) as session:
        stats = ask(session, "what", [image(640, 480)])
        assert 64 < stats.media_tokens <= 140  # several passes
    with opened(model, context=256) as session, pytest.raises(LocalmtpError, match="tokens"):
        ask(session, "what", [image(640, 480)])
    nano = resolve("nano")
    with pytest.raises(LocalmtpError, match="at most 1120 tokens"):
        open_session(nano, Choices(), LoadOptions(threads=1, image_tokens=4096, batch=4096))


def test_the_fit_counts_larger_images(model: Path) -> None:
    shape = shape_of(read_header(model))
    assert shape.multiaxial
    weights, options = Weights(1 << 30, 0, projector=1 << 30), LoadOptions()
    usual = estimate_memory(shape, weights, options).main
    assert usual > estimate_memory(replace(shape, multiaxial=False), weights, options).main


def test_an_image_of_a_dropped_message_is_dropped(model: Path) -> None:
    with opened(model) as session:
        session.messages = [Message(Role.USER, "one", media=(image(),), dropped=True)]
        assert ask(session, "two", [image(90, 260)]).media == 1
