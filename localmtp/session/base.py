"""A conversation: history, prompt, generation, statistics."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from localmtp.engine.events import Channel, Event, Finished, FinishReason, Generated
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError

if TYPE_CHECKING:
    from localmtp.engine.text.chat_template import ChatTemplate


class Role(StrEnum):
    """Who speaks."""

    USER = "user"
    MODEL = "model"


class OnFull(StrEnum):
    """What happens when a conversation outgrows the context."""

    STOP = "stop"
    """Answers end where the context does; then the conversation has to."""
    DROP = "drop"
    """The oldest exchanges are left out, down to half of the context; the system prompt stays."""


@dataclass(slots=True)
class Message:
    """One turn."""

    role: Role
    text: str
    thought: str = ""
    finish: FinishReason | None = None
    """Of a model's message: None while it grows."""
    stats: Stats | None = None
    dropped: bool = False
    """Whether the model is no longer given it, see `OnFull`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are generated; may change between two of them."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    n_draft: int | None = None
    """Draft length; None: paced automatically, 0: no drafting."""
    max_tokens: int | None = None
    """Longest answer; None: until the context is full."""
    system: str = ""
    think: bool = False
    on_full: OnFull = OnFull.STOP
    exact: bool = False
    """Of greedy answers: settle near-ties with a pass of one token."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user asked for; None leaves it to the model or the program."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    n_draft: int | None = None
    max_tokens: int | None = None
    system: str = ""
    think: bool = False
    on_full: OnFull = OnFull.STOP
    exact: bool = False

    def settings(self, default: SamplingParams) -> Settings:
        """These choices over the model's own sampling."""
        fields = ("temperature", "top_k", "top_p", "min_p", "seed")
        chosen = {name: getattr(self, name) for name in fields}
        return Settings(
            sampling=replace(default, **{k: v for k, v in chosen.items() if v is not None}),
            n_draft=self.n_draft,
            max_tokens=self.max_tokens,
            system=self.system,
            think=self.think,
            on_full=self.on_full,
            exact=self.exact,
        )


class Session(ABC):
    """One conversation, with a model on this machine or elsewhere.

    Generating methods return iterators of events and do their work as these are advanced; one
    runs at a time. `cancel` and `stats` may be called from any thread.

    Args:
        name: of the model.
        drafter_name: empty when there is none, or it is not known.
        settings: may be replaced between answers.
        place: where the model answers, in words.
    """

    def __init__(
        self,
        name: str,
        drafter_name: str,
        settings: Settings,
        place: str = "on this machine, offline",
    ) -> None:
        self.name = name
        self.place = place
        self.drafter_name = drafter_name
        self.messages: list[Message] = []
        self._settings = settings
        self.device = ""
        """What computes, in words; empty where that is not known."""
        self.memory: Mapping[str, int] = {}
        """Bytes by what takes them; empty where that is not known."""
        self.placement = ""
        """How the model was placed in memory, as one line; empty if there was no choice."""
        self._cancelled = threading.Event()

    @property
    def settings(self) -> Settings:
        """Settings of the next answer."""
        return self._settings

    def update_settings(self, settings: Settings) -> None:
        """Replaces the settings, from the next answer on."""
        self._settings = settings

    @property
    def plain_tokens_per_s(self) -> float:
        """The speed without drafting, from passes that were made without; 0 where none was."""
        return 0.0

    @property
    @abstractmethod
    def drafting(self) -> str:
        """`on`, `off: REASON`, or `unknown: REASON` where another engine does not tell."""

    def ask(self, text: str) -> Iterator[Event]:
        """Add a user's message and answer it.

        Raises:
            LocalmtpError: the message is empty, or the conversation does not fit the context.
        """
        if not text.strip():
            raise LocalmtpError("the prompt is empty", hint="type something to answer")
        self.messages.append(Message(Role.USER, text))
        try:
            return self.answer()
        except LocalmtpError:
            self.messages.pop()
            raise

    def answer(self) -> Iterator[Event]:
        """Answer the last user message.

        Raises:
            LocalmtpError: as `ask`.
        """
        events = self._reply(self.messages)
        message = Message(Role.MODEL, "")
        self.messages.append(message)
        return self._follow(events, message)

    def resume(self) -> Iterator[Event]:
        """Go on with the last model message, which was cut.

        Raises:
            LocalmtpError: as `ask`.
        """
        return self._follow(self._reply(self.messages), self.messages[-1])

    @abstractmethod
    def complete(self, text: str) -> Iterator[Event]:
        """Go on with `text` as it is: BOS, no chat template, no history.

        Raises:
            LocalmtpError: as `ask`.
        """

    def cancel(self) -> None:
        """End the answer last asked for, begun or not, after its current pass; it is kept."""
        self._cancelled.set()

    def abandon(self) -> None:
        """As `cancel`, and sooner where that can be: the program ends."""
        self.cancel()

    @property
    def is_lost(self) -> bool:
        """Whether nothing will answer any more."""
        return False

    @abstractmethod
    def stats(self) -> Stats:
        """The running answer in numbers, or the last one."""

    @abstractmethod
    def prompt(self) -> str:
        """What the model would be given to answer the conversation as it stands.

        Raises:
            LocalmtpError: the model has no chat template, or it refuses the conversation.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the model takes."""

    @abstractmethod
    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        """Answer a conversation; one that ends with the model's words is gone on with."""

    def _follow(self, events: Iterator[Event], message: Message) -> Iterator[Event]:
        """Let the message grow with the events; what was said stays, however it ends."""
        message.finish = None
        try:
            for event in events:
                if isinstance(event, Generated):
                    for piece in event.pieces:
                        if piece.channel is Channel.THOUGHT:
                            message.thought += piece.text
                        else:
                            message.text += piece.text
                elif isinstance(event, Finished):
                    event = Finished(event.reason, replace(event.stats, drafting=self.drafting))
                    message.finish, message.stats = event.reason, event.stats
                yield event
        finally:
            if message.finish is None:
                message.finish, message.stats = FinishReason.CANCELLED, self.stats()


_CHAT_ROLES = {Role.USER: "user", Role.MODEL: "assistant"}


def render(
    template: ChatTemplate | None, name: str, messages: Sequence[Message], settings: Settings
) -> str:
    """What a model is given to answer a conversation.

    Args:
        template: the model's own; None if it has none.
        name: of the model.
        messages: the conversation.
        settings: for the system prompt, and whether to think.

    Raises:
        LocalmtpError: there is no template, or it refuses the conversation.
    """
    if template is None:
        raise LocalmtpError(
            f"{name} has no chat template (a base model?)", hint="prompt it with --raw"
        )
    return template.render(chat_turns(messages, settings), think=settings.think)


def chat_turns(messages: Sequence[Message], settings: Settings) -> list[dict[str, str]]:
    """Returns a conversation as the messages of OpenAI's API: system prompt first, no thoughts.

    Dropped messages are left out.
    """
    turns = [
        {"role": _CHAT_ROLES[message.role], "content": message.text}
        for message in messages
        if not message.dropped
    ]
    system = [{"role": "system", "content": settings.system}] if settings.system else []
    return system + turns
