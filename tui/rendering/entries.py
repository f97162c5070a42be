"""Entries of the transcript other than answers: questions, notices, the welcome text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.text import Text

from localmtp.tui.media.attachment import Attachment
from localmtp.tui.rendering.brush import Brush, Line
from localmtp.tui.rendering.formatting import count, show_controls
from localmtp.tui.rendering.half_blocks import half_blocks

INDENT = 2
"""Cells left of every text, for the marks of user, notice and cursor."""

MAX_LINES = 16
FOLDED_LINES = 12
"""Lines shown of a message of more than `MAX_LINES`."""

PREVIEW_COLUMNS = 40
PREVIEW_ROWS = 8
"""Cells of the preview of an image."""

_KEY_WIDTH = 8
"""Cells for the key column of the welcome text."""


class TranscriptEntry:
    """Renders one entry and caches its lines; call `touch` after changing it."""

    text = ""
    """Text that copying the entry yields."""

    def __init__(self) -> None:
        self._rendered: list[Line] = []
        self._rendered_for: tuple[Brush, int] | None = None

    def touch(self) -> None:
        """Discards the cached lines."""
        self._rendered_for = None

    def is_rendered(self, brush: Brush, width: int) -> bool:
        """Returns whether `lines` would come from the cache."""
        return self._rendered_for == (brush, width)

    def lines(self, brush: Brush, width: int) -> list[Line]:
        """Renders in `width` cells, with an empty line at the end."""
        if not self.is_rendered(brush, width):
            self._rendered = [*self._render(brush, max(INDENT + 1, width)), []]
            self._rendered_for = (brush, width)
        return self._rendered

    def estimated_height(self, width: int) -> int:
        """Estimates the number of lines without rendering."""
        return 3 + len(self.text) // max(1, width) + self.text.count("\n")

    def _render(self, brush: Brush, width: int) -> list[Line]:
        raise NotImplementedError


class UserEntry(TranscriptEntry):
    """A message of the user.

    Args:
        text: the message; long ones are folded.
        attachments: images and sound of the message.
        queued: whether it is queued behind an answer or a model that is loading.
    """

    def __init__(
        self, text: str, attachments: Sequence[Attachment] = (), *, queued: bool = False
    ) -> None:
        super().__init__()
        self.text = text
        self.attachments = tuple(attachments)
        self.queued = queued
        self.unfolded = False

    def estimated_height(self, width: int) -> int:
        """Estimates the number of lines without rendering."""
        return super().estimated_height(width) + len(self.attachments) * (1 + PREVIEW_ROWS)

    def _render(self, brush: Brush, width: int) -> list[Line]:
        style = brush.muted if self.queued else brush.plain
        bar = Segment("▎ ", brush.muted if self.queued else brush.accent)
        text = Text(show_controls(self.text), style=style, overflow="fold")
        lines = brush.lines(text, width - INDENT)
        if not self.unfolded and len(lines) > MAX_LINES:
            more = count(len(lines) - FOLDED_LINES, "more line")
            lines = [*lines[:FOLDED_LINES], [Segment(f"▸ {more}", brush.muted)]]
        attached = [
            line for one in self.attachments for line in _attachment(one, brush, width - INDENT)
        ]
        gap: list[Line] = [[]] if attached and self.text else []
        lines = [*attached, *gap, *lines]
        if self.queued:
            lines.append([Segment("queued", brush.muted)])
        return [[bar, *line] for line in lines]


def _attachment(attachment: Attachment, brush: Brush, width: int) -> list[Line]:
    """Renders the preview of an image and the line that describes it."""
    lines: list[Line] = []
    if attachment.picture and brush.previews:
        columns = min(PREVIEW_COLUMNS, width)
        lines = half_blocks(attachment.picture, columns, PREVIEW_ROWS)
    text = Text(attachment.label(width), brush.muted, no_wrap=True, overflow="ellipsis")
    return [*lines, *brush.lines(text, width)]


class WelcomeEntry(TranscriptEntry):
    """The text of an empty conversation.

    Args:
        model: its name.
        place: where it runs, human-readable.
        is_toy: whether it is the embedded pair.
    """

    def __init__(self, model: str, place: str, *, is_toy: bool = False) -> None:
        super().__init__()
        self.is_toy = is_toy
        self.model = show_controls(model)
        self.place = show_controls(place)

    def _render(self, brush: Brush, width: int) -> list[Line]:
        intro = Text(f"{self.model} answers {self.place}.\n\n", brush.muted)
        if self.is_toy:
            intro = Text.assemble(
                (
                    "nano is a toy: it demonstrates drafting, not knowledge. It is too small to "
                    "gain from drafts; widened to 120 MB, it was 1.3 to 2.4 times as fast.\n",
                    brush.muted,
                ),
                ("For real answers choose another model: ", brush.muted),
                ("Ctrl+O", brush.accent),
                ("\n\n", brush.muted),
            )
        lines = [*brush.lines(intro, width - INDENT), []]
        for key, help_text in (
            ("Enter", "sends; Ctrl+J starts a new line"),
            ("/", "lists the commands; F1 shows all keys"),
            ("F3", "colours each token of an answer by its origin"),
            ("Ctrl+S", "shows or hides the statistics"),
            ("/race", "answers twice, with drafting off and on"),
        ):
            lead = Segment(f"{key:<{_KEY_WIDTH}}", brush.accent)
            for line in brush.lines(Text(help_text, brush.muted), width - INDENT - _KEY_WIDTH):
                lines.append([lead, *line])
                lead = Segment(" " * _KEY_WIDTH)
        return [[Segment("  "), *line] for line in lines]


class NoticeEntry(TranscriptEntry):
    """A notice or an error of the program, at its place in the conversation.

    Args:
        text: one line.
        hint: what to do; may be empty.
        error: whether it is an error.
    """

    def __init__(self, text: str, hint: str = "", *, error: bool = False) -> None:
        super().__init__()
        self.text = text
        self.hint = hint
        self.is_error = error

    def _render(self, brush: Brush, width: int) -> list[Line]:
        style = brush.error if self.is_error else brush.muted
        text = Text(show_controls(self.text), style=style, overflow="fold")
        if self.hint:
            text.append(f"\n{show_controls(self.hint)}", brush.muted)
        mark = Segment("✕ " if self.is_error else "· ", style)
        lines = brush.lines(text, width - INDENT)
        return [[mark if not y else Segment("  "), *line] for y, line in enumerate(lines)]
