"""The conversation, as one long page of lines."""

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
from localmtp.tui.drawing.brush import Brush, Line
from localmtp.tui.drawing.entries import AnswerEntry, Entry
from localmtp.tui.messages import TypedElsewhere

WIDEST_TEXT = 96
"""Cells; longer lines are tiring to read."""

SLICE_S = 0.008
"""How long entries out of sight are drawn at a time: half a frame at 60 Hz."""


_COMMAND_KEYS = {key for action in ENTRY_ACTIONS for key in action.keys.split(",")}


class Transcript(ScrollView, can_focus=True):
    """Draws entries and follows the end, until one scrolls up.

    Only entries in sight are drawn at once; the height of others is guessed, and put right
    while nothing else is to be done, without moving what is in sight.
    """

    FOCUS_ON_CLICK = False
    BINDINGS = bindings(ENTRY_ACTIONS)

    cursor: var[int | None] = var(None)
    """The entry under the cursor, while the transcript has the focus."""

    def __init__(self, brush: Brush, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.entries: list[Entry] = []
        self._brush = brush
        self._tops: list[int] = [0]
        self._following = True
        self._settling = False
        self._painted: list[Line] = []
        self._beneath = Style()

    @property
    def current(self) -> Entry | None:
        """The entry under the cursor."""
        return None if self.cursor is None else self.entries[self.cursor]

    def add(self, *entries: Entry) -> None:
        """Appends, and follows."""
        self.entries.extend(entries)
        self._following = True
        self.changed()

    def insert(self, index: int, entry: Entry) -> None:
        """Puts an entry before another."""
        self.entries.insert(index, entry)
        self.changed()

    def take_out(self, entry: Entry) -> None:
        """Takes an entry out."""
        self.entries.remove(entry)
        self.cursor = None
        self.changed()

    def replace(self, entries: list[Entry]) -> None:
        """Shows another conversation, from its end."""
        self.entries = entries
        self.cursor = None
        self._following = True
        self.changed()

    def repaint(self, brush: Brush) -> None:
        """Draws everything in other colours."""
        self._brush = brush
        self.changed()

    def changed(self) -> None:
        """Entries were added or touched: lays the page out anew and keeps the place."""
        if not self.size.width:
            return
        self._measure()
        if self._following:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
        self._measure_visible()
        self._refresh_changed_lines()
        if not self._settling and not all(map(self._is_drawn, self.entries)):
            self._settling = True
            self.set_timer(SLICE_S, self._settle)

    def line_of(self, entry: Entry) -> int:
        """The first line of an entry on the page."""
        return self._tops[self.entries.index(entry)]

    def on_resize(self) -> None:
        """Lines break elsewhere now."""
        self.changed()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Notes whether the end is in sight: only then is it followed."""
        self._following = round(new_value) >= self.max_scroll_y
        self._measure_visible()
        super().watch_scroll_y(old_value, new_value)

    def watch_cursor(self) -> None:
        """Shows the entry under the cursor."""
        if self.cursor is not None:
            top, bottom = self._tops[self.cursor], self._tops[self.cursor + 1]
            if top < self.scroll_offset.y or bottom > self.scroll_offset.y + self.size.height:
                self.scroll_to(
                    y=min(top, max(0, bottom - self.size.height)), animate=False, force=True
                )
        self.refresh()

    def on_focus(self) -> None:
        """Puts the cursor on the last entry."""
        if self.cursor is None and self.entries:
            self.cursor = len(self.entries) - 1

    def on_blur(self) -> None:
        """There is a cursor only with the focus."""
        self.cursor = None

    def action_previous(self) -> None:
        """One entry up."""
        if self.cursor:
            self.cursor -= 1

    def action_next(self) -> None:
        """One entry down."""
        if self.cursor is not None and self.cursor + 1 < len(self.entries):
            self.cursor += 1

    def action_leave(self) -> None:
        """Back to the prompt."""
        self.screen.focus_next()

    def on_key(self, event: events.Key) -> None:
        """What is no command belongs into the prompt."""
        if event.is_printable and event.character and event.key not in _COMMAND_KEYS:
            event.stop()
            self.post_message(TypedElsewhere(event.character))

    def on_click(self, event: events.Click) -> None:
        """Folds or unfolds a thought by its first line."""
        line = event.y + self.scroll_offset.y
        index = bisect_right(self._tops, line) - 1
        entry = self.entries[index] if index < len(self.entries) else None
        if isinstance(entry, AnswerEntry) and entry.thought and line == self._tops[index]:
            entry.unfolded = not entry.unfolded
            entry.touch()
            self.changed()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Some lines; the style beneath them is worked out once."""
        self._beneath = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the page, cut to the window."""
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
        return strip.apply_style(self._beneath).apply_offsets(0, page_y)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, without indents and padding."""
        page = [
            "".join(segment.text for segment in line).rstrip()
            for entry in self.entries
            for line in self._lines(entry)
        ]
        return selection.extract("\n".join(page)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Shows what is selected."""
        self.refresh()

    def _refresh_changed_lines(self) -> None:
        """Repaints from the first to the last line in sight that is not as it was painted."""
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
        return min(WIDEST_TEXT, max(1, self.size.width - 2))

    def _is_drawn(self, entry: Entry) -> bool:
        return entry.is_drawn(self._brush, self._width)

    def _lines(self, entry: Entry) -> list[Line]:
        return entry.lines(self._brush, self._width)

    def _measure(self) -> None:
        brush, width = self._brush, self._width
        heights = (
            len(entry.lines(brush, width)) if entry.is_drawn(brush, width) else entry.guess(width)
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
            # Nothing but the bar changes: the usual way would lay the whole screen out anew.
            self.set_reactive(Widget.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height

    def _measure_visible(self) -> None:
        """Draws what is in sight; its true height may bring more into sight."""
        while guessed := [entry for entry in self._visible() if not self._is_drawn(entry)]:
            for entry in guessed:
                self._draw_in_place(entry)

    def _visible(self) -> list[Entry]:
        top = self.scroll_offset.y
        first = bisect_right(self._tops, top) - 1
        last = bisect_right(self._tops, top + self.size.height)
        return self.entries[max(0, first) : last]

    def _draw_in_place(self, entry: Entry) -> None:
        """Draws an entry whose height was guessed; what is in sight stays where it is."""
        index = self.entries.index(entry)
        was_above = self._tops[index] < self.scroll_offset.y
        guessed = self._tops[index + 1] - self._tops[index]
        self._lines(entry)
        following = self._following
        self._measure()
        if following:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
        elif was_above:
            grown = self._tops[index + 1] - self._tops[index] - guessed
            self.scroll_to(y=self.scroll_y + grown, animate=False, force=True)

    def _settle(self) -> None:
        """Draws some of what is out of sight, the latest first."""
        self._settling = False
        until = monotonic() + SLICE_S
        for entry in reversed(self.entries):
            if not self._is_drawn(entry):
                if monotonic() > until:
                    self._settling = True
                    self.set_timer(SLICE_S, self._settle)
                    return
                self._draw_in_place(entry)
