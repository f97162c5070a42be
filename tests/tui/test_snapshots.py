"""Snapshots of the widgets with fixed statistics; update them with `--snapshot-update`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical

import localmtp.tui
from localmtp.engine.events import FinishReason, Generated, Origin, Piece
from localmtp.media import Media, RGBImage
from localmtp.tui.media.attachment import Attachment
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.entries import (
    NoticeEntry,
    TranscriptEntry,
    UserEntry,
    WelcomeEntry,
)
from localmtp.tui.rendering.statistics import PanelData
from localmtp.tui.screens.help import HelpScreen
from localmtp.tui.screens.rounds import RoundsScreen
from localmtp.tui.themes import PALETTES, theme
from localmtp.tui.widgets.statistics import Statistics
from localmtp.tui.widgets.top_bar import TopBar
from localmtp.tui.widgets.transcript import Transcript
from tests.media.samples import gradient
from tests.tui.frozen import MARKDOWN, MEMORY, STATS

FIGURES = PanelData(
    STATS,
    "on",
    plain_tokens_per_s=24.0,
    lengths=[3, 3, 2, 0, 1, 4, 4, 4] * 30,
    device="CPU, 8 threads",
    memory=MEMORY,
)


class Compare(Protocol):
    def __call__(self, app: App[None], terminal_size: tuple[int, int]) -> bool: ...


class Host(App[None]):
    CSS_PATH = str(Path(localmtp.tui.__file__).with_name("app.tcss"))

    def __init__(
        self, entries: list[TranscriptEntry], name: str = "localmtp-dark", over: str = ""
    ) -> None:
        super().__init__()
        self.entries, self.over, self.brush = entries, over, Brush(PALETTES[name])
        self.register_theme(theme(name))
        self.theme = name

    def compose(self) -> ComposeResult:
        yield TopBar(self.brush, id="top")
        with Horizontal(id="body"):
            with Vertical(id="conversation"):
                yield Transcript(self.brush, id="transcript")
            yield Statistics(self.brush, id="statistics")

    def on_mount(self) -> None:
        self.query_one(TopBar).show("nano", "nano", "on")
        self.query_one(Statistics).show(FIGURES)
        self.query_one(Transcript).replace(self.entries)
        self.query_one(Transcript).can_focus = False
        if self.over == "help":
            self.push_screen(HelpScreen())
        if self.over == "rounds":
            self.push_screen(RoundsScreen(drafted().rounds, self.brush))


def piece(text: str, origin: Origin) -> Piece:
    return Piece(7, text, origin)


def drafted() -> AnswerEntry:
    """A first token; two drafted tokens, one accepted; two drafted, both accepted."""
    answer = AnswerEntry()
    answer.extend(Generated((piece("The", Origin.PREFILL),)))
    accepted, corrected = piece(" quick", Origin.DRAFT), piece(" brown", Origin.TARGET)
    answer.extend(Generated((accepted, corrected), (11, 12)))
    rest = [piece(word, Origin.DRAFT) for word in (" fox", " jumps")]
    answer.extend(Generated((*rest, piece(" over", Origin.TARGET)), (13, 14)))
    answer.end(FinishReason.CANCELLED, STATS)
    answer.coloured = True
    return answer


def finished() -> AnswerEntry:
    answer = AnswerEntry(MARKDOWN, "A thought.")
    answer.end(FinishReason.STOP, STATS)
    return answer


@pytest.mark.parametrize("name", sorted(PALETTES))
def test_answer_and_statistics(snap_compare: Compare, name: str) -> None:
    assert snap_compare(Host([UserEntry("Show me"), finished()], name), terminal_size=(120, 36))


def test_coloured_tokens(snap_compare: Compare) -> None:
    assert snap_compare(Host([UserEntry("Colours"), drafted()]), terminal_size=(120, 30))


@pytest.mark.parametrize("name", PALETTES)
def test_a_question_about_an_image_and_a_sound(snap_compare: Compare, name: str) -> None:
    picture = RGBImage(96, 64, gradient(96, 64).tobytes())
    photograph, voice = (
        Media("image", bytes(2_345_678), "a photograph.jpg"),
        Media("audio", bytes(80_044), "voice.wav"),
    )
    attachments = [
        Attachment(photograph, "4032 × 2688", picture, 260),
        Attachment(voice, "2.5 s", tokens=63),
    ]
    entries: list[TranscriptEntry] = [UserEntry("What is it?", attachments), drafted()]
    assert snap_compare(Host(entries, name), terminal_size=(100, 24))


def test_welcome_text(snap_compare: Compare) -> None:
    assert snap_compare(
        Host([WelcomeEntry("nano", "on this machine", is_toy=True)]), terminal_size=(80, 24)
    )


def test_error(snap_compare: Compare) -> None:
    notice = NoticeEntry("cannot read model.gguf", "check the path", error=True)
    assert snap_compare(Host([notice]), terminal_size=(80, 24))


def test_help_screen(snap_compare: Compare) -> None:
    assert snap_compare(Host([], over="help"), terminal_size=(100, 72))


def test_rounds_screen(snap_compare: Compare) -> None:
    assert snap_compare(Host([], over="rounds"), terminal_size=(80, 24))
