"""The transcript: Markdown, scrolling, control characters, folding."""

from __future__ import annotations

from textual.app import App, ComposeResult

from localmtp.engine.events import Channel, FinishReason, Generated, Origin, Piece, Prefilled
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.entries import TranscriptEntry, UserEntry
from localmtp.tui.rendering.markdown import MarkdownDocument
from localmtp.tui.rendering.statistics import prefill_section
from localmtp.tui.themes import DARK
from localmtp.tui.widgets.status_line import state_text
from localmtp.tui.widgets.transcript import Transcript
from tests.tui.screen import seen, wait_until

MARKDOWN = """# Title

Some *prose* with `code`.

- one
- two

```python
def f(x):
    return x


def g(x):
    return -x
```

| a | b |
| - | - |
| 1 | 2 |

3. three
4. four

<b>no tag</b>
"""


class Host(App[None]):
    def __init__(self, entries: list[TranscriptEntry]) -> None:
        super().__init__()
        self.entries = entries

    def compose(self) -> ComposeResult:
        yield Transcript(Brush(DARK), id="transcript")

    def on_mount(self) -> None:
        self.query_one(Transcript).replace(self.entries)


def generated(text: str, channel: Channel = Channel.ANSWER) -> Generated:
    return Generated((Piece(1, text, Origin.TARGET, channel),))


def plain(document: MarkdownDocument, width: int = 60) -> list[str]:
    lines = document.lines(Brush(DARK), width)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def test_incremental_markdown_equals_complete_markdown() -> None:
    for size in (3, 50):
        grown = MarkdownDocument()
        for at in range(0, len(MARKDOWN), size):
            grown.append(MARKDOWN[at : at + size])
            plain(grown)
        before_the_end = plain(grown)
        grown.finish()
        assert before_the_end == plain(grown) == plain(MarkdownDocument(MARKDOWN))


def test_no_text_of_an_answer_is_lost() -> None:
    lines = plain(MarkdownDocument(MARKDOWN))
    for words in ("Title", "Some prose with code.", "• two", "3. three", "<b>no tag</b>"):
        assert any(words in line for line in lines), words
    long_line = "x = " + " + ".join(f"term_{n}" for n in range(40))
    drawn = "".join(plain(MarkdownDocument(f"```\n{long_line}\n```")))
    assert drawn.replace(" ", "").endswith(long_line.replace(" ", ""))


def test_line_breaks_of_an_answer_are_shown() -> None:
    assert plain(MarkdownDocument("1\n2\n3")) == ["1", "2", "3"]
    grown = MarkdownDocument()
    for piece in ("- a\n", "  b\n", "\nSome *Street\n", "Town*"):
        grown.append(piece)
    grown.finish()
    assert plain(grown) == [" • a", "   b", "", "Some Street", "Town"]


def test_the_state_is_writing_from_the_first_token_on() -> None:
    answer = AnswerEntry()
    answer.take([Prefilled(0, 100, 0)])
    assert state_text(answer, None, 0, "") == "prefill · 0 %"
    # A server may report no counts until the end of its answer.
    answer.take([generated("Hello"), Prefilled(0, 100, 0), generated(" there")])
    assert state_text(answer, None, 1, "") == "writing · 1 queued"
    assert "prefill" not in prefill_text(answer)


def prefill_text(answer: AnswerEntry) -> str:
    section = prefill_section(Brush(DARK), None, answer.prefilled)
    return section.plain if section else ""


def test_code_blocks_are_numbered_for_copying() -> None:
    document = MarkdownDocument("```python\na\n```\n\ntext\n\n~~~\nb\n~~~\n")
    assert [code.strip() for code in document.code_blocks()] == ["a", "b"]
    labels = [line.split() for line in plain(document) if "copy" in line]
    assert labels == [["python", "copy", "1"], ["text", "copy", "2"]]


async def test_scroll_position_is_kept_while_text_arrives() -> None:
    entries: list[TranscriptEntry] = [UserEntry(f"question {n}") for n in range(40)]
    answer = AnswerEntry()
    app = Host([*entries, answer])
    async with app.run_test(size=(60, 20)) as pilot:
        transcript = app.query_one(Transcript)
        await wait_until(pilot, lambda: transcript.scroll_offset.y > 0, "the end is visible")
        transcript.scroll_to(y=10, animate=False)
        await pilot.pause()
        before = [line for line in seen(app).splitlines() if "question" in line]
        for _ in range(30):
            answer.extend(generated("more text\n\n"))
            transcript.changed()
        await pilot.pause()
        assert [line for line in seen(app).splitlines() if "question" in line] == before


async def test_new_text_is_followed() -> None:
    answer = AnswerEntry()
    app = Host([answer])
    async with app.run_test(size=(60, 20)) as pilot:
        transcript = app.query_one(Transcript)
        for number in range(60):
            answer.extend(generated(f"line {number}\n\n"))
            transcript.changed()
        await pilot.pause()
        assert "line 59" in seen(app)


async def test_escape_sequences_are_shown_as_symbols() -> None:
    answer = AnswerEntry()
    answer.extend(generated("\x1b]0;title\x07 and \x9b31m red \x1b[2J"))
    answer.extend(generated("\x1b[5n", Channel.THOUGHT))
    answer.unfolded = True
    answer.end(FinishReason.STOP, None)
    app = Host([UserEntry("\x1b[31mred"), answer])
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        text = seen(app)
        assert "␛]0;title␇" in text and "␛[2J" in text and "␛[31mred" in text and "␛[5n" in text
        assert not {"\x1b", "\x07", "\x9b"} & set(text)


async def test_a_click_unfolds_a_thought() -> None:
    answer = AnswerEntry("The answer.", "The hidden thought.")
    app = Host([answer])
    async with app.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert "hidden" not in seen(app)
        await pilot.click(Transcript, offset=(4, 0))
        assert "hidden" in seen(app)
