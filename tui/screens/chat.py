"""The chat: conversation, statistics, and the actions between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer
from textual.worker import Worker, WorkerState

from localmtp.errors import LocalmtpError
from localmtp.tui.actions import CHAT_ACTIONS, bindings
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.messages import AnswerBegan, AnswerEnded, Submitted
from localmtp.tui.text import plural, rate, share
from localmtp.tui.widgets.activity import Activity
from localmtp.tui.widgets.conversation import Conversation
from localmtp.tui.widgets.statistics import Statistics
from localmtp.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from localmtp.session import Session

POLL_EVERY_S = 1 / 4

Opener = Callable[[Callable[[str], None]], "Session"]
"""Loads a session; says in words how far it is."""


class ChatScreen(Screen[None]):
    """What `localmtp chat` shows."""

    BINDINGS = bindings(CHAT_ACTIONS)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's own type
    AUTO_FOCUS = "#prompt"

    def __init__(self, model: str, opener: Opener, brush: Brush) -> None:
        super().__init__()
        self.failure: LocalmtpError | None = None
        self._model = model
        self._opener = opener
        self._brush = brush
        self._loading = f"loading {model} …"
        self._polling: Timer | None = None

    def compose(self) -> ComposeResult:
        """Top bar; conversation beside statistics; keys."""
        yield TopBar(self._brush, id="top")
        with Horizontal(id="body"):
            yield Conversation(self._brush, id="conversation")
            yield Statistics(self._brush, id="statistics")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Loads the model while one can already type."""
        self.query_one(TopBar).show(self._model, "", "")
        self.conversation.prompt.placeholder = f"Message {self._model}"
        self._polling = self.set_interval(POLL_EVERY_S, self.show_state, pause=True)
        self.show_state()
        tell = partial(self.app.call_from_thread, self._tell)
        self.run_worker(partial(self._opener, tell), thread=True, exit_on_error=False)

    @property
    def conversation(self) -> Conversation:
        """What is said."""
        return self.query_one(Conversation)

    def repaint(self, brush: Brush) -> None:
        """Draws everything in other colours."""
        self._brush = brush
        self.conversation.transcript.repaint(brush)
        self.query_one(TopBar).repaint(brush)
        self.query_one(Statistics).repaint(brush)

    def show_state(self) -> None:
        """Tells the statistics, and what happens, anew."""
        conversation = self.conversation
        session, answer = conversation.session, conversation.answer
        stats = session.stats() if session and (answer or session.messages) else None
        drafting = session.drafting if session else ""
        prefilled = answer.prefilled if answer else None
        self.query_one(Statistics).show(
            stats, drafting, writing=answer is not None, prefilled=prefilled
        )
        if answer is None:
            state = self._loading
        elif stats and stats.completion_tokens:
            state = f"writing · {plural(stats.completion_tokens, 'token')}"
        elif prefilled and prefilled.total:
            state = f"reading the prompt · {share(prefilled.done / prefilled.total)}"
        else:
            state = "reading the prompt"
        if conversation.waiting and answer:
            state += f" · {conversation.waiting} waiting"
        summary = ""
        if stats and stats.decode_s > 0 and self.has_class("-narrow"):
            summary = f"{rate(stats.decode_tokens_per_s)} tok/s"
            if stats.drafted:
                summary += f" · {share(stats.acceptance_rate)} accepted"
                summary += f" · {stats.tokens_per_pass:.2f} per pass"
        self.query_one(Activity).show(state, summary)
        if session:
            self.query_one(TopBar).show(session.name, session.drafter_name, drafting)

    def action_stop(self) -> None:
        """Stops the answer; without one, clears the prompt."""
        if not self.conversation.stop():
            self.conversation.prompt.set_aside()

    def action_interrupt(self) -> None:
        """Copies, stops, or leaves: whatever is nearest."""
        if selected := self.get_selected_text():
            self.app.copy_to_clipboard(selected)
            self.clear_selection()
            self.query_one(Activity).note("copied")
        elif not self.conversation.stop():
            self.query_one(Activity).note("Ctrl+Q leaves the chat")

    def action_panel(self) -> None:
        """Shows or hides the statistics, against what the width alone would decide."""
        panel = self.query_one(Statistics)
        panel.set_class(panel.display, "-hidden").set_class(not panel.display, "-shown")

    def action_messages(self) -> None:
        """Puts the cursor on the last message."""
        self.conversation.transcript.focus()

    def action_quit(self) -> None:
        """Leaves; what is being written is stopped and kept."""
        self.conversation.stop()
        self.app.exit()

    @on(Submitted)
    def _submitted(self, event: Submitted) -> None:
        if self.failure:
            self.conversation.prompt.restore(event.text)
            self.query_one(Activity).note("no model is loaded")
        else:
            self.conversation.send(event.text)

    @on(AnswerBegan)
    def _answer_began(self) -> None:
        if self._polling:
            self._polling.resume()

    @on(AnswerEnded)
    def _answer_ended(self) -> None:
        if self._polling and self.conversation.answer is None:
            self._polling.pause()
        self.show_state()

    @on(Worker.StateChanged)
    def _opened(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.SUCCESS and event.worker.result:
            self._loading = ""
            self._begin(event.worker.result)
        elif event.state is WorkerState.ERROR:
            self._loading = ""
            self._not_opened(event.worker.error)

    def _begin(self, session: Session) -> None:
        self.conversation.prompt.placeholder = f"Message {session.name}"
        self.conversation.begin(session)
        self.show_state()

    def _not_opened(self, error: BaseException | None) -> None:
        if not isinstance(error, LocalmtpError):
            error = LocalmtpError(f"{type(error).__name__}: {error}")
        self.failure = error
        self.conversation.give_up()
        self.conversation.say(error.message, error.hint, error=True)
        self.show_state()

    def _tell(self, progress: str) -> None:
        self._loading = progress
        self.show_state()
