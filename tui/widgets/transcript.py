"""The conversation as one scrollable page of lines."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from time import monotonic

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from localmtp.tui.commands.actions import ENTRY_ACTIONS, bindings
from localmtp.tui.messages import CharacterTyped
from localmtp.tui.rendering.answer_entry import AnswerEntry
from localmtp.tui.rendering.brush import Brush, Line
from localmtp.tui.rendering.entries import TranscriptEntry

MAX_TEXT_WIDTH = 96
"""Cells: longer lines are tiring to read."""

BACKGROUND_RENDER_S = 0.008
"""Time spent rendering off-screen entries at once: half a frame at 60 Hz."""

_COMMAND_KEYS = {key for action in ENTRY_ACTIONS for key in action.keys.split(",")}


class Transcript(ScrollView, can_focus=True):
    """Renders entries and follows the end until the user scrolls up.

    Only visible entries are rendered immediately. The height of the others is estimated, and
    corrected while the event loop is idle, without moving the visible ones.
    """

    FOCUS_ON_CLICK = False
    BINDINGS = bindings(ENTRY_ACTIONS)

    cursor: var[int | None] = var(None)
    """Index of the entry under the cursor; None without the focus."""

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.entries: list[TranscriptEntry] = []
        self._brush = brush
        self._tops: list[int] = [0]
        self._following = True
        self._rendering_rest = False
        self._painted: list[Line] = []
        self._base_style = Style()

    @property
    def current(self) -> TranscriptEntry | None:
        """Returns the entry under the cursor."""
        return None if self.cursor is None else self.entries[self.cursor]

    def add(self, *entries: TranscriptEntry) -> None:
        """Appends entries and scrolls to the end."""
        self.entries.extend(entries)
        self._following = True
        self.changed()

    def insert(self, index: int, entry: TranscriptEntry) -> None:
        """Inserts an entry before the one at `index`."""
        self.entries.insert(index, entry)
        self.changed()

    def remove_entry(self, entry: TranscriptEntry) -> None:
        """Removes an entry."""
        self.entries.remove(entry)
        self.cursor = None
        self.changed()

    def replace(self, entries: list[TranscriptEntry]) -> None:
        """Shows other entries, scrolled to the end."""
        self.entries = entries
        self.cursor = None
        self._following = True
        self.changed()

    def repaint(self, brush: Brush) -> None:
        """Redraws in other colours."""
        self._brush = brush
        self.changed()

    def changed(self) -> None:
        """Updates the layout after entries were added or touched; keeps the scroll position."""
        if not self.size.width:
            return
        self._measure()
        if self._following:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
        self._render_visible()
        self._refresh_changed_lines()
        if not self._rendering_rest and not all(map(self._is_rendered, self.entries)):
            self._rendering_rest = True
            self.set_timer(BACKGROUND_RENDER_S, self._render_rest)

    def on_resize(self) -> None:
        """Wraps lines to the new width."""
        self.changed()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follows the end only while it is visible."""
        self._following = round(new_value) >= self.max_scroll_y
        self._render_visible()
        super().watch_scroll_y(old_value, new_value)

    def watch_cursor(self) -> None:
        """Scrolls to the entry under the cursor."""
        if self.cursor is not None:
            top, bottom = self._tops[self.cursor], self._tops[self.cursor + 1]
            if top < self.scroll_offset.y or bottom > self.scroll_offset.y + self.size.height:
                self.scroll_to(
                    y=min(top, max(0, bottom - self.size.height)), animate=False, force=True
                )
        self.refresh()

    def on_focus(self) -> None:
        """Moves the cursor to the last entry."""
        if self.cursor is None and self.entries:
            self.cursor = len(self.entries) - 1

    def on_blur(self) -> None:
        """Removes the cursor."""
        self.cursor = None

    def action_previous(self) -> None:
        """Moves the cursor one entry up."""
        if self.cursor:
            self.cursor -= 1

    def action_next(self) -> None:
        """Moves the cursor one entry down."""
        if self.cursor is not None and self.cursor + 1 < len(self.entries):
            self.cursor += 1

    def action_leave(self) -> None:
        """Returns the focus to the prompt."""
        self.screen.focus_next()

    def on_key(self, event: events.Key) -> None:
        """Passes characters that are not bound to the prompt."""
        if event.is_printable and event.character and event.key not in _COMMAND_KEYS:
            event.stop()
            self.post_message(CharacterTyped(event.character))

    def on_click(self, event: events.Click) -> None:
        """Folds or unfolds a thought when its first line is clicked."""
        line = event.y + self.scroll_offset.y
        index = bisect_right(self._tops, line) - 1
        entry = self.entries[index] if index < len(self.entries) else None
        if isinstance(entry, AnswerEntry) and entry.thought and line == self._tops[index]:
            entry.unfolded = not entry.unfolded
            entry.touch()
            self.changed()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Renders some lines, with the base style computed once."""
        self._base_style = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Renders one line, cropped to the widget."""
        page_y = y + self.scroll_offset.y
        line = self._line(page_y)
        if self.cursor is not None and (
            self._tops[self.cursor] <= page_y < self._tops[self.cursor + 1] - 1
        ):
            mark = Segment("▌", self._brush.accent)
            line = [mark, *Strip(line).crop(1)] if line else [mark]
        strip = Strip(line).adjust_cell_length(self.size.width)
        if (selection := self.text_selection) and (span := selection.get_span(page_y)):
            strip = self._selected(strip, *span)
        return strip.apply_style(self._base_style).apply_offsets(0, page_y)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Returns the selected text without padding."""
        page = [
            "".join(segment.text for segment in line).rstrip()
            for entry in self.entries
            for line in self._lines(entry)
        ]
        return selection.extract("\n".join(page)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Repaints the selection."""
        self.refresh()

    def _refresh_changed_lines(self) -> None:
        """Repaints from the first to the last visible line that changed."""
        top, height = self.scroll_offset.y, self.size.height
        lines = [self._line(y) for y in range(top, top + height)]
        changed = [y for y in range(height) if self._painted[y : y + 1] != [lines[y]]]
        if changed:
            self.refresh(Region(0, changed[0], self.size.width, changed[-1] - changed[0] + 1))
        self._painted = lines

    def _line(self, page_y: int) -> Line:
        index = bisect_right(self._tops, page_y) - 1
        if index >= len(self.entries):
            return []
        lines = self._lines(self.entries[index])
        within = page_y - self._tops[index]
        return lines[within] if within < len(lines) else []

    def _selected(self, strip: Strip, start: int, end: int) -> Strip:
        style = self.screen.get_component_rich_style("screen--selection")
        end = strip.cell_length if end == -1 else end
        before, inside, after = strip.crop(0, start), strip.crop(start, end), strip.crop(end)
        return Strip.join([before, inside.apply_style(style), after])

    @property
    def _width(self) -> int:
        return min(MAX_TEXT_WIDTH, max(1, self.size.width - 2))

    def _is_rendered(self, entry: TranscriptEntry) -> bool:
        return entry.is_rendered(self._brush, self._width)

    def _lines(self, entry: TranscriptEntry) -> list[Line]:
        return entry.lines(self._brush, self._width)

    def _measure(self) -> None:
        brush, width = self._brush, self._width
        heights = (
            len(entry.lines(brush, width))
            if entry.is_rendered(brush, width)
            else entry.estimated_height(width)
            for entry in self.entries
        )
        self._tops = [0, *accumulate(heights)]
        size = Size(self.size.width, self._tops[-1])
        overflowed = self.virtual_size.height > self.size.height
        overflows = size.height > self.size.height
        same_frame = overflows == overflowed and size.width == self.virtual_size.width
        if self.styles.is_auto_height or not same_frame:
            self.virtual_size = size
        elif size != self.virtual_size:
            # Only the scroll bar changes; assigning the property would lay out the whole screen.
            self.set_reactive(Widget.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height

    def _render_visible(self) -> None:
        """Renders the visible entries; their real height may make others visible."""
        while pending := [entry for entry in self._visible() if not self._is_rendered(entry)]:
            for entry in pending:
                self._render_in_place(entry)

    def _visible(self) -> list[TranscriptEntry]:
        top = self.scroll_offset.y
        first = bisect_right(self._tops, top) - 1
        last = bisect_right(self._tops, top + self.size.height)
        return self.entries[max(0, first) : last]

    def _render_in_place(self, entry: TranscriptEntry) -> None:
        """Renders an entry whose height was estimated, without moving the visible lines."""
        index = self.entries.index(entry)
        was_above = self._tops[index] < self.scroll_offset.y
        estimated = self._tops[index + 1] - self._tops[index]
        self._lines(entry)
        following = self._following
        self._measure()
        if following:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
        elif was_above:
            grown = self._tops[index + 1] - self._tops[index] - estimated
            self.scroll_to(y=self.scroll_y + grown, animate=False, force=True)

    def _render_rest(self) -> None:
        """Renders some off-screen entries, the latest first."""
        self._rendering_rest = False
        until = monotonic() + BACKGROUND_RENDER_S
        for entry in reversed(self.entries):
            if not self._is_rendered(entry):
                if monotonic() > until:
                    self._rendering_rest = True
                    self.set_timer(BACKGROUND_RENDER_S, self._render_rest)
                    return
                self._render_in_place(entry)
