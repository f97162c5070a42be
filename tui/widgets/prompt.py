"""The prompt: several lines, a history, and never in the way."""

from __future__ import annotations

from textual import events
from textual.widgets import TextArea

from localmtp.tui.messages import CompletionWanted, Submitted, TakeBack


class Prompt(TextArea):
    """Enter sends, Shift+Enter or Ctrl+J breaks the line, Up walks through what was sent."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(
            id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", compact=True
        )
        self.sent: list[str] = []
        self._at: int | None = None
        self._draft = ""

    def put(self, text: str) -> None:
        """Shows `text`, with the cursor at its end."""
        self.text = text
        self.move_cursor(self.document.end)

    def restore(self, text: str) -> None:
        """Gives back what could not be sent, before whatever was typed since."""
        self.put(f"{text}\n{self.text}" if self.text.strip() else text)

    def set_aside(self) -> None:
        """Clears the prompt; Up brings the text back."""
        if text := self.text.strip():
            self.sent.append(text)
            self._at = None
            self.clear()

    def type(self, character: str) -> None:
        """As if the focus had been here."""
        self.focus()
        self.insert(character)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self._send()
        elif event.key in ("shift+enter", "ctrl+j", "alt+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
        elif event.key == "tab" and self.text.startswith("/"):
            event.stop()
            event.prevent_default()
            self.post_message(CompletionWanted())

    async def _on_paste(self, event: events.Paste) -> None:
        # Terminals send pasted line ends as carriage returns; the text area inserts the rest.
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")

    def action_cursor_up(self, select: bool = False) -> None:
        """Within the text; above its first line, through the history."""
        if select or not self.cursor_at_first_line:
            super().action_cursor_up(select)
        elif not self.text and self._at is None:
            self.post_message(TakeBack())
        else:
            self.recall(-1)

    def action_cursor_down(self, select: bool = False) -> None:
        """Within the text; below its last line, back through the history."""
        if select or not self.cursor_at_last_line or self._at is None:
            super().action_cursor_down(select)
        else:
            self.recall(1)

    def recall(self, by: int) -> None:
        """Walks through what was sent: -1 to the one before."""
        if self._at is None:
            self._at, self._draft = len(self.sent), self.text
        self._at = max(0, self._at + by)
        if self._at >= len(self.sent):
            self._at = None
            self.put(self._draft)
        else:
            self.put(self.sent[self._at])

    def _send(self) -> None:
        text = self.text.strip()
        if text:
            if self.sent[-1:] != [text]:
                self.sent.append(text)
            self._at = None
            self.clear()
            self.post_message(Submitted(text))
