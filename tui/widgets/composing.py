"""The prompt with its completion and its attachments: the message that is being written."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from textual import on
from textual.app import ComposeResult

from localmtp.tui.commands.attachments import expand_references
from localmtp.tui.messages import (
    AttachmentFailed,
    AttachmentsRead,
    CharacterTyped,
    CompletePrompt,
    ImagePasted,
    MediaCompleted,
    PasteText,
    PathsPasted,
    RemoveLastAttachment,
)
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.entries import UserEntry
from localmtp.tui.widgets.answer_runner import AnswerRunner
from localmtp.tui.widgets.attachment_tray import AttachmentTray, PictureWidget
from localmtp.tui.widgets.completion import Completion
from localmtp.tui.widgets.prompt import Prompt


class Composing(AnswerRunner):
    """Writes messages: text, references to files, images and sound.

    Args:
        brush: for the colours.
        drawn: called after more of an answer was drawn.
        picture_widget: draws previews of attached images; None for half blocks.
        id: of the widget.
    """

    def __init__(
        self,
        brush: Brush,
        drawn: Callable[[], None],
        picture_widget: PictureWidget | None = None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(drawn, id=id)
        self._brush = brush
        self._picture_widget = picture_widget
        self._send_when_read = False
        """Whether Enter was pressed while an attachment was being read."""

    def compose_prompt(self) -> ComposeResult:
        """Yields completion, attachments and prompt."""
        yield Completion(id="completion")
        yield AttachmentTray(self._brush, self._picture_widget, id="attachments")
        yield Prompt(id="prompt")

    @property
    def prompt(self) -> Prompt:
        """Returns the prompt widget."""
        return self.query_one(Prompt)

    @property
    def tray(self) -> AttachmentTray:
        """Returns the widget with the attachments of the next message."""
        return self.query_one(AttachmentTray)

    @abstractmethod
    def notice(self, text: str, hint: str = "", *, error: bool = False) -> None:
        """Adds a notice to the transcript."""

    def expand_files(self, text: str) -> tuple[str, str]:
        """Appends the files attached to a message; returns it with a notice.

        Raises:
            LocalmtpError: a file cannot be attached.
        """
        return expand_references(text, self.query_one(Completion).attached)

    def waits_for_attachments(self, text: str) -> bool:
        """Returns a message to the prompt while something is attached to it; sent afterwards."""
        self._send_when_read = self.tray.is_reading
        if self._send_when_read:
            self.prompt.restore(text)
        return self._send_when_read

    def discard(self) -> None:
        """Clears the prompt and removes the attachments."""
        self._send_when_read = False
        self.prompt.discard()
        self.tray.take()

    def return_to_prompt(self, entry: UserEntry, put: Callable[[str], None]) -> None:
        """Moves a message back: its text with `put`, and its attachments."""
        put(entry.text)
        self.tray.put(entry.attachments)

    @on(CharacterTyped)
    def _character_typed(self, event: CharacterTyped) -> None:
        self.prompt.type(event.character)

    @on(Prompt.Changed)
    def _prompt_changed(self) -> None:
        self.query_one(Completion).update_matches(self.prompt.split_at_cursor()[0])

    @on(CompletePrompt)
    def _complete(self) -> None:
        prompt = self.prompt
        before, after = prompt.split_at_cursor()
        completed = self.query_one(Completion).complete(before)
        if completed is not None:
            prompt.put(completed, after)

    @on(MediaCompleted)
    def _media_completed(self, event: MediaCompleted) -> None:
        self.tray.attach(event.path)

    @on(PathsPasted)
    def _paths_pasted(self, event: PathsPasted) -> None:
        self.tray.paste(event.text)

    @on(ImagePasted)
    def _image_pasted(self) -> None:
        self.tray.paste_image()

    @on(PasteText)
    def _text_pasted(self, event: PasteText) -> None:
        self.prompt.type(event.text)

    @on(RemoveLastAttachment)
    def _remove_last_attachment(self) -> None:
        self.tray.detach()

    @on(AttachmentFailed)
    def _attachment_failed(self, event: AttachmentFailed) -> None:
        self._send_when_read = False
        self.notice(event.error.message, event.error.hint, error=True)

    @on(AttachmentsRead)
    def _attachments_read(self) -> None:
        if self._send_when_read:
            # In the prompt's own context: a message posted from here would not bubble past here.
            self.prompt.call_later(self.prompt.submit)
