"""The interface of the chat screen to slash commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localmtp.mcp.host import ToolHost
    from localmtp.media import Kind
    from localmtp.session import Session
    from localmtp.tui.rendering.answer_entry import AnswerEntry


class ChatControls(Protocol):
    """Operations of the chat that slash commands use; implemented by `ChatScreen`."""

    @property
    def session(self) -> Session | None:
        """Returns the session that answers; None while the first model is loading."""

    @property
    def tools(self) -> ToolHost | None:
        """Returns the tools that answers may call; None without any."""

    def check_tools(self) -> object:
        """Reports a model that cannot call the tools."""

    def last_answer(self) -> AnswerEntry | None:
        """Returns the last answer, finished or growing."""

    def resume_answer(self) -> bool:
        """Resumes the last answer if it was cut; returns False otherwise."""

    def edit_last_question(self) -> bool:
        """Moves the last question to the prompt; returns False if that is not possible now."""

    def delete_last_exchange(self) -> bool:
        """Deletes the last question and answer; returns False if that is not possible now."""

    def restore_deleted(self) -> bool:
        """Restores the exchange deleted last; returns False if that is not possible now."""

    def insert_text(self, text: str) -> None:
        """Replaces the text of the prompt."""

    def attach(self, path: Path, kind: Kind) -> None:
        """Attaches an image or sound to the next message; a file of another kind is refused."""

    def attach_from_clipboard(self) -> None:
        """Attaches the image in the clipboard."""

    def detach(self, number: int) -> str:
        """Removes an attachment, 0 for the first, -1 for the last; returns its name, if any."""

    def show_previews(self, shown: bool) -> None:
        """Shows or hides previews of images, now and in later chats."""

    def copy(self, text: str) -> str:
        """Copies text to the clipboard; returns a notice."""

    def screenshot(self) -> str:
        """Returns the screen as SVG."""

    def write_files(self, files: Mapping[Path, bytes]) -> object:
        """Writes files and reports the first one's path; asks before overwriting others."""

    def switch_model(self, model: str) -> None:
        """Loads another model, which answers from the next message on."""

    def race(self, prompt: str) -> None:
        """Answers a prompt with drafting off and on."""

    def show_text(self, text: str) -> None:
        """Shows a text of several lines."""

    def show_prompt(self, session: Session) -> object:
        """Shows the rendered prompt."""

    def action_help(self) -> None:
        """Shows keys and commands."""

    def action_new(self) -> None:
        """Starts a new conversation."""

    def action_history(self, words: str = "") -> object:
        """Shows saved conversations that contain all words."""

    def action_models(self) -> object:
        """Shows the models to choose from."""

    def action_regenerate(self) -> None:
        """Answers the last question again."""

    def action_colours(self) -> None:
        """Colours the tokens of the last answer."""

    def action_rounds(self) -> None:
        """Shows the rounds of the last answer."""

    def action_panel(self) -> None:
        """Shows or hides the statistics."""

    def run_app_action(self, action: str) -> None:
        """Runs an action of the application."""
