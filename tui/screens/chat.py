"""The chat screen: conversation and statistics side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widgets import Footer
from textual.worker import Worker, WorkerState

from localmtp.errors import LocalmtpError
from localmtp.tui.commands import slash
from localmtp.tui.commands.actions import CHAT_ACTIONS, bindings
from localmtp.tui.messages import (
    GenerationEnded,
    GenerationStarted,
    ModelChanged,
    ModelLoadFinished,
    SaveFailed,
    ShowBriefly,
    Submitted,
)
from localmtp.tui.model_loading import ModelLoader, OpenSession
from localmtp.tui.rendering.brush import Brush
from localmtp.tui.rendering.formatting import show_controls
from localmtp.tui.rendering.statistics import PanelData
from localmtp.tui.screens.screen_actions import ScreenActions
from localmtp.tui.widgets.attachment_tray import PictureWidget
from localmtp.tui.widgets.conversation import Conversation
from localmtp.tui.widgets.statistics import Statistics
from localmtp.tui.widgets.status_line import StatusLine, state_text, summary_parts
from localmtp.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from localmtp.engine.stats import Stats
    from localmtp.history import History
    from localmtp.mcp.host import ToolHost
    from localmtp.tui.media.attachment import Attachment
    from localmtp.tui.tool_use import ToolUse

POLL_EVERY_S = 1 / 4
"""Between updates of the statistics while an answer is written or a model is loading."""


QUIT_WORDS = ("exit", "quit")
"""Messages that leave the chat, as in a shell."""


class OpenedHistory(NamedTuple):
    """The saved conversations, and what was not sent when the chat last ended."""

    history: History
    unsent: str
    attached: Sequence[Attachment] = ()


class ChatScreen(ScreenActions):
    """The main screen; implements `ChatControls` for the slash commands.

    Args:
        model: its name as given by the user; None for the default model.
        open_session: loads models, in threads.
        open_history: opens the saved conversations, in a thread; None to save nothing.
        brush: for the colours.
        picture_widget: draws previews of attached images; None for half blocks.
    """

    BINDINGS = bindings(CHAT_ACTIONS)
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (76, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's own type
    AUTO_FOCUS = "#prompt"

    def __init__(
        self,
        model: str | None,
        open_session: OpenSession,
        open_history: Callable[[], OpenedHistory] | None,
        brush: Brush,
        picture_widget: PictureWidget | None = None,
        tool_use: ToolUse | None = None,
    ) -> None:
        super().__init__(brush)
        self._tool_use = tool_use
        self._picture_widget = picture_widget
        self._open_history = open_history
        self.error: LocalmtpError | None = None
        """Why there is no model; None while loading, and once a model was loaded."""
        self._model = model
        self.loader = ModelLoader(
            open_session, lambda load: self.post_message(ModelLoadFinished(load))
        )
        self._polling: Timer | None = None
        self._warned: tuple[str, ...] = ()
        """Warnings of the session that were shown."""

    def compose(self) -> ComposeResult:
        """Yields the top bar, conversation and statistics, and the footer."""
        yield TopBar(self._brush, id="top")
        with Horizontal(id="body"):
            yield Conversation(
                self._brush, self.show_status, self._picture_widget, id="conversation"
            )
            yield Statistics(self._brush, id="statistics")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Opens the history and starts to load the model."""
        name = PurePath(self._model).name if self._model else "the model"
        self.query_one(TopBar).show(name, "", "")
        self.conversation.prompt.placeholder = show_controls(f"Message {name}")
        self._polling = self.set_interval(POLL_EVERY_S, self.show_state)
        if self._tool_use:
            self.conversation.tool_use = self._tool_use
            self.set_interval(POLL_EVERY_S, self._show_tool_notices)
        if self._open_history:
            self.run_worker(self._open_history, name="history", thread=True, exit_on_error=False)
        self.loader.start(self._model)
        self.show_state()

    @property
    def tools(self) -> ToolHost | None:
        """Returns the tools that answers may call; None without any."""
        return self._tool_use.host if self._tool_use else None

    def _show_tool_notices(self) -> None:
        for notice in self.tools.take_notices() if self.tools else ():
            self.conversation.notice(notice, error=True)

    def repaint(self, brush: Brush) -> None:
        """Redraws in other colours."""
        self._brush = brush
        self.conversation.transcript.repaint(brush)
        self.conversation.tray.repaint(brush)
        self.query_one(TopBar).repaint(brush)
        self.query_one(Statistics).repaint(brush)

    def show_state(self) -> None:
        """Updates statistics, top bar and status line."""
        session = self.session
        self.query_one(Statistics).show(self._panel_data(self._stats()))
        if session:
            self.query_one(TopBar).show(session.name, session.drafter_name, session.drafting)
            self._show_warnings(session.warnings)
        answer = self.conversation.answer
        if self.loader.progress or self.conversation.queued or not (answer and answer.rounds):
            self.show_status()

    def _show_warnings(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            if warning not in self._warned:
                self.conversation.notice(warning, error=True)
        self._warned = warnings

    def show_status(self) -> None:
        """Updates the status line.

        While an answer is written, this happens together with drawing it: when two distant
        regions change separately, Textual composes everything between them.
        """
        conversation, stats = self.conversation, self._stats()
        answer = conversation.answer
        state = state_text(answer, stats, conversation.queued, self.loader.progress)
        narrow = answer and answer.rounds and not self.has_class("-wide")
        self.query_one(StatusLine).show(state, summary_parts(stats) if stats and narrow else ())

    def _stats(self) -> Stats | None:
        """Returns the statistics of the running or the last answer."""
        session = self.session
        return (
            session.stats() if session and (self.conversation.answer or session.messages) else None
        )

    def _panel_data(self, stats: Stats | None) -> PanelData:
        session, answer = self.session, self.conversation.answer
        if session is None:
            return PanelData()
        last = self.conversation.last_answer()
        return PanelData(
            stats,
            session.drafting,
            writing=answer is not None,
            prefilled=answer.prefilled if answer else None,
            plain_tokens_per_s=session.plain_tokens_per_s,
            lengths=[len(one.drafted) for one in last.rounds[1:]] if last else (),
            device=session.device,
            memory=session.memory,
        )

    def switch_model(self, model: str) -> None:
        """Loads another model, which answers from the next message on."""
        self.loader.start(model)
        self._update_polling()

    def resume_answer(self) -> bool:
        """Resumes the last answer if it was cut; returns False otherwise."""
        return self.conversation.resume()

    def insert_text(self, text: str) -> None:
        """Replaces the text of the prompt."""
        self.conversation.prompt.put(text)

    def show_previews(self, shown: bool) -> None:
        """Shows or hides previews of images, now and in later chats."""
        self.run_app_action(f"previews({shown})")

    def screenshot(self) -> str:
        """Returns the screen as SVG."""
        return self.app.export_screenshot(title="localmtp")

    def run_app_action(self, action: str) -> None:
        """Runs an action of the application in the background."""
        self.run_worker(self.app.run_action(action))

    def action_stop(self) -> None:
        """Stops the answer; without one, cancels loading; otherwise clears the prompt."""
        if self.conversation.stop():
            return
        if self.session and self.loader.cancel():
            self.note(f"cancelled; {self.session.name} continues")
        else:
            self.conversation.editing = None
            self.conversation.discard()

    def action_interrupt(self) -> None:
        """Copies the selection, or stops the answer."""
        if selected := self.get_selected_text():
            self.note(self.copy(selected))
            self.clear_selection()
        elif not self.conversation.stop():
            self.note("Ctrl+Q leaves the chat")

    def action_regenerate(self) -> None:
        """Answers the last question again."""
        if not self.conversation.regenerate():
            self.note("no finished answer to retry")

    def action_new(self) -> None:
        """Starts a new conversation; the old one stays saved."""
        if not self.conversation.show_conversation([]):
            self.note("stop the answer first")

    def action_panel(self) -> None:
        """Shows or hides the statistics, whatever the width."""
        panel = self.query_one(Statistics)
        panel.set_class(panel.display, "-hidden").set_class(not panel.display, "-shown")

    @on(Submitted)
    def _submitted(self, event: Submitted) -> None:
        if command := slash.parse(event.text):
            try:
                self.note(slash.run(self, *command))
            except LocalmtpError as error:
                self.show_error(error)
        elif self.conversation.waits_for_attachments(event.text):
            self.note("sent once the attachment is read")
        elif not event.text and not self.conversation.tray.attachments:
            return
        elif event.text in QUIT_WORDS and not self.conversation.tray.attachments:
            self.run_app_action("quit")
        elif self.error:
            self.conversation.prompt.restore(event.text)
            self.note("no model is loaded")
        else:
            self._send(event.text)

    def _send(self, text: str) -> None:
        """Sends a message with its attached files."""
        try:
            message, attached = self.conversation.expand_files(text)
        except LocalmtpError as error:
            self.conversation.prompt.restore(text)
            self.show_error(error)
        else:
            self.note(attached)
            self.conversation.send(message[1:] if message.startswith("//") else message)

    @on(ShowBriefly)
    def _show_briefly(self, event: ShowBriefly) -> None:
        self.note(event.text)

    @on(SaveFailed)
    def _save_failed(self, event: SaveFailed) -> None:
        self.show_error(event.error)

    @on(GenerationStarted)
    @on(GenerationEnded)
    def _update_polling(self) -> None:
        """Updates the state periodically while it changes by itself."""
        if self._polling:
            if self.conversation.answer or self.loader.progress:
                self._polling.resume()
            else:
                self._polling.pause()
        self.show_state()

    @on(Worker.StateChanged)
    def _history_opened(self, event: Worker.StateChanged) -> None:
        worker = event.worker
        if worker.name != "history":
            return
        if event.state is WorkerState.SUCCESS and worker.result:
            opened: OpenedHistory = worker.result
            self.conversation.saver.history = opened.history
            if opened.history.notice:
                self.conversation.notice(opened.history.notice)
            if opened.unsent or opened.attached:
                self.conversation.prompt.restore(opened.unsent)
                self.conversation.tray.put(opened.attached)
                self.note("restored what you had not sent")
        elif isinstance(worker.error, LocalmtpError):
            self.show_error(worker.error)

    @on(ModelLoadFinished)
    def _model_load_finished(self, event: ModelLoadFinished) -> None:
        load = event.load
        if not self.loader.complete(load):
            return
        if load.session:
            self.error = None
            self.conversation.set_session(load.session)
            if load.session.hint:
                self.note(load.session.hint)
        elif load.error:
            self._load_failed(load.error)
        self._update_polling()

    def _load_failed(self, error: LocalmtpError) -> None:
        if self.session is None:
            self.error = error
            self.conversation.return_queue()
        self.show_error(error)
        if self.session:
            self.note(f"{self.session.name} continues")

    @on(ModelChanged)
    def _model_changed(self) -> None:
        session = self.session
        if session is None:
            return
        self.conversation.prompt.placeholder = show_controls(f"Message {session.name}")
        self.query_one(Statistics).reset()
        self.check_tools()
        for load in self.loader.retire(session):
            self.run_worker(load.close, thread=True, exit_on_error=False)
        self.show_state()
