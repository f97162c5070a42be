"""The images and sound of the next message, above the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.segment import Segment
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from localmtp.errors import LocalmtpError
from localmtp.media import Kind, Media, RGBImage
from localmtp.tui.media.attachment import MEDIA_SUFFIXES, Attachment, described, read_attachment
from localmtp.tui.media.clipboard import clipboard_image
from localmtp.tui.media.dropped_paths import dropped_paths
from localmtp.tui.messages import AttachmentFailed, AttachmentsRead, PasteText, ShowBriefly
from localmtp.tui.rendering.brush import Brush, Line
from localmtp.tui.rendering.formatting import show_controls
from localmtp.tui.rendering.half_blocks import half_blocks

PREVIEW_COLUMNS = 20
PREVIEW_ROWS = 5
"""Cells of the preview of the last image."""

MAX_ROWS = 4
"""Attachments that are listed; earlier ones are counted."""

MIN_SCREEN_ROWS = 16
"""Rows of a terminal with space for a preview."""

PictureWidget = Callable[[RGBImage], Widget]
"""Makes a widget that draws a picture with the terminal's own graphics."""


@dataclass(slots=True, eq=False)
class _Slot:
    name: str
    attachment: Attachment | None = None
    """None while it is read."""


class AttachmentTray(Horizontal):
    """Reads, lists and previews what is attached to the next message.

    Files are read and decoded in threads. A file that cannot be attached is reported with
    `AttachmentFailed`; `AttachmentsRead` is posted when nothing is being read any more.

    Args:
        brush: for the colours.
        picture_widget: draws the preview; None for half blocks.
        id: of the widget.
    """

    def __init__(
        self,
        brush: Brush,
        picture_widget: PictureWidget | None = None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._tokens_of: Callable[[Media], int | None] | None = None
        self._brush = brush
        self._picture_widget = picture_widget
        self._slots: list[_Slot] = []
        self._preview = Horizontal(id="preview")
        self._rows = Static(id="attached")
        self._refusals: set[str] = set()
        """Reasons why the model refuses attachments that were shown."""
        self._pasting = 0
        self._previewed: object = None
        self.display = False

    def compose(self) -> ComposeResult:
        """Yields the preview and the list."""
        yield self._preview
        yield self._rows

    @property
    def attachments(self) -> list[Attachment]:
        """Returns what was read."""
        return [slot.attachment for slot in self._slots if slot.attachment]

    @property
    def is_reading(self) -> bool:
        """Whether a file is being read."""
        return self._pasting > 0 or any(slot.attachment is None for slot in self._slots)

    def attach(self, path: Path, kind: Kind | None = None) -> None:
        """Reads a file and attaches it; one of another kind than `kind` is refused."""
        self._add(path.name, lambda: read_attachment(path, kind))

    def put(self, attachments: Sequence[Attachment]) -> None:
        """Attaches what was attached before, in front of the others."""
        self._slots[:0] = slots = [_Slot(one.media.name, one) for one in attachments]
        self._show()
        for slot in slots:
            if slot.attachment and slot.attachment.tokens is None:
                self._measure(slot)

    def measure_with(self, tokens_of: Callable[[Media], int | None]) -> None:
        """Shows how many tokens the attachments have.

        Args:
            tokens_of: returns the length of media in the prompt; blocking, called in threads.
        """
        self._tokens_of = tokens_of
        self._refusals.clear()
        for slot in self._slots:
            self._measure(slot)

    def take(self) -> list[Attachment]:
        """Returns and removes all attachments."""
        taken = self.attachments
        self._slots.clear()
        self._show()
        return taken

    def detach(self, number: int = -1) -> str:
        """Removes an attachment, the last by default; returns its name, empty if there is none."""
        if not -len(self._slots) <= number < len(self._slots):
            return ""
        slot = self._slots.pop(number)
        self._show()
        self._report_if_read()
        return slot.name

    def repaint(self, brush: Brush) -> None:
        """Redraws in other colours."""
        self._brush, self._previewed = brush, None
        self._show()

    def on_resize(self) -> None:
        """Shows the preview only where there is space."""
        self._show()

    @work
    async def paste(self, text: str) -> None:
        """Attaches the files whose paths were pasted; what is no image or sound stays text."""
        self._pasting += 1
        paths = await asyncio.to_thread(dropped_paths, text)
        try:
            read = [await asyncio.to_thread(read_attachment, path) for path in paths]
        except LocalmtpError as error:
            read = []
            if any(path.suffix.lower() in MEDIA_SUFFIXES for path in paths):
                self.post_message(AttachmentFailed(error))
        for attachment in read:
            self._slots.append(slot := _Slot(attachment.media.name))
            self._fill(slot, attachment)
        if not read:
            self.post_message(PasteText(text))
        self._pasting -= 1
        self._report_if_read()

    @work(exclusive=True, group="clipboard")
    async def paste_image(self) -> None:
        """Attaches the image in the clipboard; without one, pastes the chat's own clipboard."""
        try:
            media = await asyncio.to_thread(clipboard_image)
            problem = "no image in the clipboard"
        except LocalmtpError as error:
            media, problem = None, error.message
        if media:
            self._add(media.name, lambda: described(media))
        elif self.app.clipboard:
            self.post_message(PasteText(self.app.clipboard))
        else:
            self.post_message(ShowBriefly(problem))

    def _add(self, name: str, read: Callable[[], Attachment]) -> None:
        slot = _Slot(name)
        self._slots.append(slot)
        self._show()
        self._read(slot, read)

    @work
    async def _read(self, slot: _Slot, read: Callable[[], Attachment]) -> None:
        attachment, problem = None, None
        try:
            attachment = await asyncio.to_thread(read)
        except LocalmtpError as error:
            problem = error
        if slot not in self._slots:
            # Removed meanwhile.
            return
        if attachment:
            self._fill(slot, attachment)
        elif problem:
            self._slots.remove(slot)
            self._show()
            self.post_message(AttachmentFailed(problem))
        self._report_if_read()

    def _fill(self, slot: _Slot, attachment: Attachment) -> None:
        slot.attachment = attachment
        self._show()
        self._measure(slot)

    @work
    async def _measure(self, slot: _Slot) -> None:
        tokens_of, attachment = self._tokens_of, slot.attachment
        if tokens_of is None or attachment is None:
            return
        try:
            tokens = await asyncio.to_thread(tokens_of, attachment.media)
        except LocalmtpError as error:
            # The model will refuse it: better said before the message is sent.
            slot.attachment = replace(attachment, is_refused=True)
            if slot in self._slots and error.message not in self._refusals:
                self._refusals.add(error.message)
                self.post_message(AttachmentFailed(error))
        else:
            slot.attachment = replace(attachment, tokens=tokens, is_refused=False)
        self._show()

    def _report_if_read(self) -> None:
        if not self.is_reading:
            self.post_message(AttachmentsRead())

    def _show(self) -> None:
        self.display = bool(self._slots)
        self._show_preview()
        lines = [self._row(slot) for slot in self._slots[-MAX_ROWS:]]
        if more := len(self._slots) - len(lines):
            lines.insert(0, Text(f"{more} more", self._brush.muted))
        if self._slots:
            lines.append(Text("Backspace removes the last", self._brush.muted))
        self._rows.update(Text("\n", no_wrap=True, overflow="ellipsis").join(lines))

    def _row(self, slot: _Slot) -> Text:
        if slot.attachment is None:
            return Text(f"{show_controls(slot.name)} · reading", self._brush.muted)
        label = Text(slot.attachment.label(self._width), self._brush.plain)
        if slot.attachment.is_refused:
            label.append("\ncannot be read by this model", self._brush.error)
        return label

    @property
    def _width(self) -> int:
        """Cells for the list next to the preview."""
        preview = PREVIEW_COLUMNS + 2 if self._preview.display else 0
        return self.size.width - preview

    def _show_preview(self) -> None:
        pictures = [one.picture for one in self.attachments if one.picture]
        fits = self.is_attached and self.app.size.height >= MIN_SCREEN_ROWS
        picture = pictures[-1] if pictures and self._brush.previews and fits else None
        if picture is self._previewed or not self.is_attached:
            return
        self._previewed = picture
        self._preview.display = picture is not None
        self._preview.remove_children()
        if picture is not None:
            self._preview.mount(self._drawn(picture))

    def _drawn(self, picture: RGBImage) -> Widget:
        if self._picture_widget:
            return self._picture_widget(picture)
        lines = half_blocks(picture, PREVIEW_COLUMNS, PREVIEW_ROWS)
        return Static(_as_text(lines))


def _as_text(lines: Sequence[Line]) -> Text:
    def text(segment: Segment) -> tuple[str, object]:
        return segment.text, segment.style or ""

    rows = [Text.assemble(*map(text, line)) for line in lines]  # type: ignore[arg-type]
    return Text("\n", no_wrap=True, end="").join(rows)
