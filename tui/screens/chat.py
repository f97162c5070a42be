"""The chat: conversation, statistics, and the actions between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer
from textual.worker import Worker, WorkerState

from localmtp.errors import LocalmtpError
from localmtp.tui.commands.actions import CHAT_ACTIONS, bindings
from localmtp.tui.commands.interpreter import Interpreter
from localmtp.tui.commands.table import parse
from localmtp.tui.drawing.brush import Brush
from localmtp.tui.drawing.code import prepare
from localmtp.tui.drawing.entries import AnswerEntry, Entry, UserEntry
from localmtp.tui.drawing.panel import Figures
from localmtp.tui.drawing.text import plural
from localmtp.tui.messages import (
    AnswerBegan,
    AnswerEnded,
    ModelChanged,
    NotSaved,
    Opened,
    Submitted,
)
from localmtp.tui.opening import Loader, Opener
from localmtp.tui.screens.help import HelpScreen
from localmtp.tui.screens.models import ModelsScreen, rows_here
from localmtp.tui.screens.race import RaceScreen
from localmtp.tui.screens.rounds import RoundsScreen
from localmtp.tui.screens.sessions import SessionsScreen
from localmtp.tui.screens.settings import SettingsScreen
from localmtp.tui.widgets.activity import Activity, brief, doing
from localmtp.tui.widgets.conversation import Conversation
from localmtp.tui.widgets.statistics import Statistics
from localmtp.tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from localmtp.engine.stats import Stats
    from localmtp.history import History
    from localmtp.session import Session

POLL_EVERY_S = 1 / 4


class ChatScreen(Screen[None]):
    """What `localmtp chat` shows."""

    BINDINGS = bindings(CHAT_ACTIONS)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's own type
    AUTO_FOCUS = "#prompt"

    def __init__(
        self,
        model: str | None,
        opener: Opener,
        open_history: Callable[[], tuple[History, str]] | None,
        brush: Brush,
    ) -> None:
        super().__init__()
        self._open_history = open_history
        self.failure: LocalmtpError | None = None
        self._model = model
        self.loader = Loader(opener, lambda opening: self.post_message(Opened(opening)))
        self._brush = brush
        self._polling: Timer | None = None
        self._interpreter = Interpreter(self)

    def compose(self) -> ComposeResult:
        """Top bar; conversation beside statistics; keys."""
        yield TopBar(self._brush, id="top")
        with Horizontal(id="body"):
            yield Conversation(self._brush, self.show_activity, id="conversation")
            yield Statistics(self._brush, id="statistics")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Loads the model while one can already type."""
        name = PurePath(self._model).name if self._model else "the model"
        self.query_one(TopBar).show(name, "", "")
        self.conversation.prompt.placeholder = f"Message {name}"
        self._polling = self.set_interval(POLL_EVERY_S, self.show_state)
        if self._open_history:
            self.run_worker(self._open_history, name="history", thread=True, exit_on_error=False)
        self.loader.begin(self._model)
        self.show_state()

    def switch(self, model: str) -> None:
        """Loads another model; it answers from the next message on."""
        self.loader.begin(model)
        self._poll()

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
        session = self.conversation.session
        self.query_one(Statistics).show(self._figures(self._stats()))
        if session:
            self.query_one(TopBar).show(session.name, session.drafter_name, session.drafting)
        answer = self.conversation.answer
        if self.loader.state or self.conversation.waiting or not (answer and answer.rounds):
            self.show_activity()

    def show_activity(self) -> None:
        """Tells what happens, anew.

        While an answer is written, together with what is drawn of it: what changes at two ends of
        the screen at once makes Textual look at all that is between them.
        """
        conversation, stats = self.conversation, self._stats()
        answer = conversation.answer
        state = doing(answer, stats, conversation.waiting, self.loader.state)
        narrow = answer and self.has_class("-narrow")
        self.query_one(Activity).show(state, brief(stats) if stats and narrow else "")

    def _stats(self) -> Stats | None:
        """Of the running answer, or of the last one."""
        session, answer = self.conversation.session, self.conversation.answer
        return session.stats() if session and (answer or session.messages) else None

    def _figures(self, stats: Stats | None) -> Figures:
        conversation = self.conversation
        session, answer = conversation.session, conversation.answer
        if session is None:
            return Figures()
        last = conversation.last_answer()
        return Figures(
            stats,
            session.drafting,
            writing=answer is not None,
            prefilled=answer.prefilled if answer else None,
            plain_speed=session.plain_tokens_per_s,
            lengths=[len(played.drafted) for played in last.rounds[1:]] if last else (),
            device=session.device,
            memory=session.memory,
        )

    def note(self, text: str) -> None:
        """Says for a moment what was done."""
        if text:
            self.query_one(Activity).note(text)

    def copy(self, text: str) -> str:
        """Puts text on the clipboard, and says so."""
        self.app.copy_to_clipboard(text)
        return f"copied {plural(len(text.splitlines()), 'line')}"

    def race(self, prompt: str) -> None:
        """Answers a prompt twice, on a screen of its own."""
        if session := self.conversation.lend():
            self.app.push_screen(RaceScreen(session, prompt, self._brush), self._raced)
        else:
            self.note("wait for the answer first")

    def _raced(self, plain_speed: float | None) -> None:
        self.conversation.give_back()
        self.query_one(Statistics).compare(plain_speed or 0.0)

    def action_stop(self) -> None:
        """Stops the answer; without one, the loading of another model; else clears the prompt."""
        if self.conversation.stop():
            return
        if self.conversation.session and self.loader.give_up():
            self.note(f"{self.conversation.session.name} stays")
        else:
            self.conversation.editing = None
            self.conversation.prompt.set_aside()

    def action_interrupt(self) -> None:
        """Copies the selection, or stops."""
        if selected := self.get_selected_text():
            self.note(self.copy(selected))
            self.clear_selection()
        elif not self.conversation.stop():
            self.note("Ctrl+Q leaves the chat")

    def action_regenerate(self) -> None:
        """Answers the last question once more."""
        if not self.conversation.regenerate():
            self.note("there is no finished answer")

    def action_new(self) -> None:
        """Begins anew; the old conversation stays saved."""
        if not self.conversation.show([]):
            self.note("stop the answer first")

    @work
    async def action_sessions(self, words: str = "") -> None:
        """Lets the user choose among the saved conversations."""
        history = self.conversation.history
        if history is None:
            self.note("conversations are not being saved")
            return
        chosen = await self.app.push_screen_wait(SessionsScreen(history, words))
        if chosen is not None:
            messages = await asyncio.to_thread(history.load, chosen)
            settings = await asyncio.to_thread(history.settings, chosen)
            await asyncio.to_thread(prepare, "\n".join(m.text for m in messages))
            if not self.conversation.show(messages, chosen, settings):
                self.note("stop the answer first")

    @work
    async def action_models(self) -> None:
        """Lets the user choose the model that answers."""
        session = self.conversation.session
        running = session.name if session else ""
        chosen = await self.app.push_screen_wait(ModelsScreen(running, rows_here))
        if chosen and (chosen != running or (session and session.is_lost)):
            self.switch(chosen)

    @work
    async def show_prompt(self, session: Session) -> None:
        """Says what the model would be given; in a thread, as its template may be a long one."""
        try:
            self.conversation.say(await asyncio.to_thread(session.prompt))
        except LocalmtpError as error:
            self.conversation.say(error.message, error.hint, error=True)

    @work
    async def action_settings(self) -> None:
        """Lets the user change how answers are generated."""
        session = self.conversation.session
        if session is None:
            self.note("no model is loaded yet")
        elif settings := await self.app.push_screen_wait(SettingsScreen(session.settings)):
            session.update_settings(settings)
            self.note("set, from the next message")
            self.set_timer(POLL_EVERY_S, self.show_state)

    def action_colours(self) -> None:
        """Colours the tokens of the last answer."""
        self._colour(self.conversation.last_answer())

    def action_rounds(self) -> None:
        """Steps through the rounds of the last answer."""
        answer = self.conversation.last_answer()
        if answer and answer.rounds:
            self.app.push_screen(RoundsScreen(answer.rounds, self._brush))
        else:
            self.note("only answers of this run have rounds")

    def action_thinking(self) -> None:
        """Folds or unfolds the last thought."""
        self._unfold(self.conversation.last_answer())

    def action_panel(self) -> None:
        """Shows or hides the statistics, against what the width alone would decide."""
        panel = self.query_one(Statistics)
        panel.set_class(panel.display, "-hidden").set_class(not panel.display, "-shown")

    def action_messages(self) -> None:
        """Puts the cursor on the last message."""
        self.conversation.transcript.focus()

    def action_help(self) -> None:
        """Shows keys and commands."""
        self.app.push_screen(HelpScreen())

    def action_copy_entry(self) -> None:
        """Copies the message under the cursor."""
        if entry := self.conversation.transcript.current:
            self.note(self.copy(entry.text))

    def action_edit_entry(self) -> None:
        """Takes the question under the cursor, or the one it answers, into the prompt."""
        transcript = self.conversation.transcript
        if transcript.cursor is None:
            return
        asked = [e for e in transcript.entries[: transcript.cursor + 1] if isinstance(e, UserEntry)]
        if asked and self.conversation.edit(asked[-1]):
            self.note("Enter branches off here, Esc leaves it")

    def action_delete_entry(self) -> None:
        """Deletes the exchange under the cursor."""
        entry = self.conversation.transcript.current
        if entry and self.conversation.delete(entry):
            self.conversation.prompt.focus()
            self.note("deleted")

    def action_unfold_entry(self) -> None:
        """Folds or unfolds the thought under the cursor."""
        self._unfold(self.conversation.transcript.current)

    def action_colour_entry(self) -> None:
        """Colours the tokens under the cursor."""
        self._colour(self.conversation.transcript.current)

    def _unfold(self, entry: Entry | None) -> None:
        if isinstance(entry, AnswerEntry) and entry.thought:
            entry.unfolded = not entry.unfolded
            entry.touch()
            self.conversation.transcript.changed()

    def _colour(self, entry: Entry | None) -> None:
        if not isinstance(entry, AnswerEntry) or not entry.rounds:
            self.note("only answers of this run have colours")
            return
        entry.coloured = not entry.coloured
        entry.touch()
        self.conversation.transcript.changed()

    @on(Submitted)
    def _submitted(self, event: Submitted) -> None:
        if command := parse(event.text):
            self._interpreter.run(*command)
        elif self.failure:
            self.conversation.prompt.restore(event.text)
            self.note("no model is loaded")
        else:
            self.conversation.send(event.text.removeprefix("/"))

    @on(NotSaved)
    def _not_saved(self, event: NotSaved) -> None:
        self.conversation.say(event.reason.message, event.reason.hint, error=True)

    @on(AnswerBegan)
    @on(AnswerEnded)
    def _poll(self) -> None:
        """Looks at the state from time to time, as long as it changes by itself."""
        if self._polling:
            if self.conversation.answer or self.loader.state:
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
            history, unsent = worker.result
            self.conversation.history = history
            if history.notice:
                self.conversation.say(history.notice)
            if unsent:
                self.conversation.prompt.restore(unsent)
                self.note("what was not sent is back")
        elif isinstance(worker.error, LocalmtpError):
            self.conversation.say(worker.error.message, worker.error.hint, error=True)

    @on(Opened)
    def _opened(self, event: Opened) -> None:
        opening = event.opening
        if not self.loader.arrived(opening):
            return
        if opening.session:
            self.failure = None
            self.conversation.begin(opening.session)
        elif opening.failure:
            self._not_opened(opening.failure)
        self._poll()

    def _not_opened(self, error: LocalmtpError) -> None:
        conversation = self.conversation
        if conversation.session is None:
            self.failure = error
            conversation.give_up()
        conversation.say(error.message, error.hint, error=True)
        if conversation.session:
            self.note(f"{conversation.session.name} stays")

    @on(ModelChanged)
    def _model_changed(self) -> None:
        session = self.conversation.session
        if session is None:
            return
        self.conversation.prompt.placeholder = f"Message {session.name}"
        self.query_one(Statistics).forget()
        for old in self.loader.retire(session):
            self.run_worker(old.close, thread=True, exit_on_error=False)
        self.show_state()
