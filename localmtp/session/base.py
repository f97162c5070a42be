"""Conversations: messages, settings, and the interface of every session."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from localmtp.engine.events import Channel, Event, Finished, FinishReason, Generated
from localmtp.engine.sampling.params import AcceptanceRule, OnRepeat, SamplingParams
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.session.tools import CallReader, Function, ToolStep
from localmtp.unicode import replace_surrogates

if TYPE_CHECKING:
    from localmtp.engine.text.tool_calls import ToolCall


HERE = "on this machine, offline"
"""Place of sessions whose model runs here."""


class Role(StrEnum):
    """Author of a message."""

    USER = "user"
    MODEL = "model"


class OnFull(StrEnum):
    """Behaviour when a conversation outgrows the context."""

    STOP = "stop"
    """The answer ends at the last position of the context; further questions are an error."""
    DROP = "drop"
    """The oldest exchanges are left out of the prompt until half of the context is free. The
    system prompt stays."""


@dataclass(slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    text: str
    thought: str = ""
    finish: FinishReason | None = None
    """None for a user's message and while the answer is being generated."""
    stats: Stats | None = None
    dropped: bool = False
    """Left out of the prompt, see `OnFull.DROP`."""
    media: tuple[Media, ...] = ()
    """Images and sound of a user's message; they precede its text in the prompt."""
    steps: tuple[ToolStep, ...] = ()
    """Rounds of tool calls before the text of an answer."""
    calls: tuple[ToolCall, ...] = ()
    """Calls that end an answer and wait for their results."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the next answer."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    n_draft: int | None = None
    """Draft length; None: automatic, 0: no drafting."""
    max_tokens: int | None = None
    """Longest answer, in tokens; None: until the context is full."""
    system: str = ""
    think: bool = False
    on_full: OnFull = OnFull.STOP
    think_budget: int | None = None
    """Maximum tokens of thoughts; None: no limit, 0: do not think."""
    template: str = ""
    """Path of a Jinja file that replaces the model's chat template; empty for its own."""

    @property
    def thinks(self) -> bool:
        """Whether the model is asked to think."""
        return self.think and self.think_budget != 0


@dataclass(frozen=True, slots=True)
class Choices:
    """Settings that the user chose; None stands for the model's or the program's default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    acceptance: AcceptanceRule | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    on_repeat: OnRepeat | None = None
    n_draft: int | None = None
    max_tokens: int | None = None
    system: str = ""
    think: bool = False
    think_budget: int | None = None
    on_full: OnFull = OnFull.STOP
    template: str = ""

    def settings(self, default: SamplingParams) -> Settings:
        """Returns complete settings, with the model's `default` sampling where none is chosen."""
        chosen = {name: getattr(self, name, None) for name in SamplingParams.__dataclass_fields__}
        return Settings(
            sampling=replace(default, **{k: v for k, v in chosen.items() if v is not None}),
            n_draft=self.n_draft,
            max_tokens=self.max_tokens,
            system=self.system,
            think=self.think,
            think_budget=self.think_budget,
            on_full=self.on_full,
            template=self.template,
        )


class Session(ABC):
    """A conversation with a model, on this machine or on a server.

    Methods that generate return an iterator of events and work only while it is advanced. One
    answer is generated at a time. `cancel` and `stats` may be called from any thread.

    Args:
        name: of the model.
        drafter_name: empty if there is none or it is unknown.
        settings: of the first answer.
        place: human-readable description of where the model runs.
    """

    def __init__(
        self,
        name: str,
        drafter_name: str,
        settings: Settings,
        place: str = HERE,
    ) -> None:
        self.name = name
        self.place = place
        self.drafter_name = drafter_name
        self.messages: list[Message] = []
        self._settings = settings
        self.device = ""
        """Human-readable name of what computes; empty if unknown."""
        self.memory: Mapping[str, int] = {}
        """Predicted bytes of the target, the drafter, the KV cache and the buffers; empty if
        unknown."""
        self.placement = ""
        """One line about how the model was placed in memory; empty if nothing was chosen."""
        self.tools: Sequence[Function] = ()
        """Functions that the model may call in later answers."""
        self.hint = ""
        """One line of advice about the model's file; empty if there is none."""
        self._cancelled = threading.Event()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line about each failure so far that ended no answer."""
        return ()

    @property
    def knows_tools(self) -> bool | None:
        """Whether the chat template describes tools; None if a server does not say."""
        return None

    @property
    def template(self) -> str:
        """The chat template in use, for users; empty if a server renders the prompts."""
        return ""

    @property
    def settings(self) -> Settings:
        """Settings of the next answer."""
        return self._settings

    def update_settings(self, settings: Settings) -> None:
        """Replaces the settings, from the next answer on."""
        self._settings = settings

    @property
    def plain_tokens_per_s(self) -> float:
        """Decoding speed without drafting, in tokens per second; 0 if it was not measured."""
        return 0.0

    @property
    @abstractmethod
    def drafting(self) -> str:
        """`on`, `off: REASON`, or `unknown: REASON` if another engine does not report it."""

    def ask(self, text: str, media: Sequence[Media] = ()) -> Iterator[Event]:
        """Appends a user's message and answers it.

        Args:
            text: may be empty if there are media.
            media: images and sounds that belong to the message.

        Raises:
            LocalmtpError: the message is empty, the conversation does not fit the context, or the
                model reads no such media.
        """
        if not text.strip() and not media:
            raise LocalmtpError("the prompt is empty", hint="type something to answer")
        self.messages.append(Message(Role.USER, replace_surrogates(text), media=tuple(media)))
        try:
            return self.answer()
        except LocalmtpError:
            self.messages.pop()
            raise

    def answer(self) -> Iterator[Event]:
        """Answers the last user's message.

        Raises:
            LocalmtpError: as `ask`.
        """
        events = self._reply(self.messages)
        message = Message(Role.MODEL, "")
        self.messages.append(message)
        return self._follow(events, message)

    def resume(self) -> Iterator[Event]:
        """Continues the last message, an answer that was cut off.

        Raises:
            LocalmtpError: as `ask`.
        """
        return self._follow(self._reply(self.messages), self.messages[-1])

    def media_tokens(self, media: Media) -> int | None:
        """Returns the number of tokens of an image or sound; None if it is unknown.

        Nothing is encoded, but the first call may load the projector. May be called from any
        thread, also during an answer.

        Raises:
            LocalmtpError: the model reads no such media, or they cannot be decoded.
        """
        return None

    def continue_with(self, results: Sequence[str]) -> Iterator[Event]:
        """Continues the last answer with the results of its calls.

        Args:
            results: one for each of the message's `calls`.

        Raises:
            LocalmtpError: as `ask`.
        """
        message = self.messages[-1]
        step = ToolStep(message.text, message.thought, message.calls, tuple(results))
        message.steps = (*message.steps, step)
        message.text, message.thought, message.calls = "", "", ()
        return self.resume()

    @abstractmethod
    def complete(self, text: str) -> Iterator[Event]:
        """Continues a raw `text`: BOS, no chat template, no history.

        Raises:
            LocalmtpError: as `ask`.
        """

    def cancel(self) -> None:
        """Ends the last requested answer after its current pass; its text is retained."""
        self._cancelled.set()

    def abandon(self) -> None:
        """Ends the answer as soon as possible, because the program exits."""
        self.cancel()

    @property
    def is_lost(self) -> bool:
        """True once the session cannot answer any more."""
        return False

    @abstractmethod
    def stats(self) -> Stats:
        """Returns the statistics of the running answer, or of the last one."""

    @abstractmethod
    def prompt(self) -> str:
        """Returns the rendered prompt that would be sent to answer the conversation now.

        Raises:
            LocalmtpError: the chat template rejects the
                conversation.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees the model or closes the connection."""

    @abstractmethod
    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        """Answers a conversation; a last message of the model is continued."""

    def _follow(self, events: Iterator[Event], message: Message) -> Iterator[Event]:
        """Appends the generated text to a message, which retains it however the answer ends."""
        message.finish = None
        reader = CallReader(self.tools)
        try:
            for event in events:
                if isinstance(event, Generated):
                    for piece in event.pieces:
                        if piece.channel is Channel.THOUGHT:
                            message.thought += piece.text
                        else:
                            message.text += reader.read(piece)
                elif isinstance(event, Finished):
                    event = Finished(event.reason, replace(event.stats, drafting=self.drafting))
                    message.finish, message.stats = event.reason, event.stats
                    message.text += reader.end()
                    message.calls = self._calls_of(reader)
                yield event
        finally:
            if message.finish is None:
                message.finish, message.stats = FinishReason.CANCELLED, self.stats()

    def _calls_of(self, reader: CallReader) -> tuple[ToolCall, ...]:
        """Returns the tool calls at the end of an answer."""
        return tuple(reader.calls)
