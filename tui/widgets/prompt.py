"""The multi-line prompt with its history."""

from __future__ import annotations

from textual import events
from textual.widgets import TextArea

from localmtp.tui.commands.attachments import reference_before
from localmtp.tui.media.dropped_paths import may_be_paths
from localmtp.tui.messages import (
    CompletePrompt,
    ImagePasted,
    PathsPasted,
    RecallQueued,
    RemoveLastAttachment,
    Submitted,
)


class Prompt(TextArea):
    """Sends on Enter, breaks the line on Shift+Enter or Ctrl+J, recalls sent messages on Up.

    Ctrl+D in an empty prompt leaves the chat.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(
            id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", compact=True
        )
        self.sent: list[str] = []
        self._at: int | None = None
        self._draft = ""

    def put(self, text: str, after: str = "") -> None:
        """Replaces the text with `text` and `after`, with the cursor between them."""
        self.text = text
        self.move_cursor(self.document.end)
        if after:
            cursor = self.cursor_location
            self.insert(after)
            self.move_cursor(cursor)

    def split_at_cursor(self) -> tuple[str, str]:
        """Returns the text before and after the cursor."""
        before = self.get_text_range((0, 0), self.cursor_location)
        return before, self.text[len(before) :]

    def restore(self, text: str) -> None:
        """Inserts a message that could not be sent before the current text."""
        self.put(f"{text}\n{self.text}" if self.text.strip() else text)

    def discard(self) -> None:
        """Clears the prompt; Up recalls the text."""
        if text := self.text.strip():
            self.sent.append(text)
            self._at = None
            self.clear()

    def type(self, character: str) -> None:
        """Takes the focus and inserts a character that was typed elsewhere."""
        self.focus()
        self.insert(character)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.submit()
        elif event.key in ("shift+enter", "ctrl+j", "alt+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
        elif event.key == "tab" and self._is_completable:
            event.stop()
            event.prevent_default()
            self.post_message(CompletePrompt())
        elif event.key == "ctrl+d" and not self.text:
            event.stop()
            event.prevent_default()
            await self.run_action("app.quit")
        elif event.key == "backspace" and not self.text:
            self.post_message(RemoveLastAttachment())

    async def _on_paste(self, event: events.Paste) -> None:
        # Terminals send pasted line ends as carriage returns.
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        if not event.text:
            # Some terminals paste nothing when the clipboard contains an image.
            self.post_message(ImagePasted())
        elif may_be_paths(event.text):
            event.prevent_default()
            self.post_message(PathsPasted(event.text))

    def action_paste(self) -> None:
        """Pastes an image from the system's clipboard, or what was copied in the chat."""
        self.post_message(ImagePasted())

    def action_cursor_up(self, select: bool = False) -> None:
        """Moves up within the text; from the first line, recalls the previous message."""
        if select or not self.cursor_at_first_line:
            super().action_cursor_up(select)
        elif not self.text and self._at is None:
            self.post_message(RecallQueued())
        else:
            self.recall(-1)

    def action_cursor_down(self, select: bool = False) -> None:
        """Moves down within the text; from the last line, recalls the next message."""
        if select or not self.cursor_at_last_line or self._at is None:
            super().action_cursor_down(select)
        else:
            self.recall(1)

    def recall(self, by: int) -> None:
        """Moves through sent messages: -1 to the previous one, past the last to the draft."""
        if self._at is None:
            self._at, self._draft = len(self.sent), self.text
        self._at = max(0, self._at + by)
        if self._at >= len(self.sent):
            self._at = None
            self.put(self._draft)
        else:
            self.put(self.sent[self._at])

    @property
    def _is_completable(self) -> bool:
        before, _ = self.split_at_cursor()
        return self.text.startswith("/") or reference_before(before) is not None

    def submit(self) -> None:
        """Sends the text, which may be empty: what is attached may be the whole message."""
        text = self.text.strip()
        if text and self.sent[-1:] != [text]:
            self.sent.append(text)
        self._at = None
        self.clear()
        self.post_message(Submitted(text))
