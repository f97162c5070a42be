"""A model that replies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, Unpack

from localmtp.api.options import ChatOptions, CompletionOptions, checked_choices
from localmtp.api.reply import Reply
from localmtp.api.turns import Turns
from localmtp.engine.events import Event
from localmtp.errors import LocalmtpError
from localmtp.media import Media, load_media, media_from_bytes
from localmtp.session import Choices, Message, Role, Session

MediaSource: TypeAlias = str | os.PathLike[str] | bytes | Media
"""An image or sound: the path of its file, or the file's bytes."""

_ROLES = {"user": Role.USER, "assistant": Role.MODEL}


class LanguageModel:
    """A loaded pair, or a model of a server; made by `load` and `connect`.

    Use it as a context manager, or call `close`.

    `chat` and `complete` may be called from any thread and return immediately; replies are
    generated one at a time, see `Reply`.

    Args:
        session: closed with the model.
        warnings: what the user should know about the files.
    """

    def __init__(self, session: Session, warnings: Sequence[str] = ()) -> None:
        self.warnings = tuple(warnings)
        """One line each, for example about a drafter that was not found."""
        self._session = session
        self._sampling = session.settings.sampling
        self._turns = Turns()

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._session.name

    @property
    def drafter_name(self) -> str:
        """Name of the drafter; empty if there is none or it is unknown."""
        return self._session.drafter_name

    @property
    def device(self) -> str:
        """Human-readable name of what computes; empty if unknown."""
        return self._session.device

    @property
    def memory(self) -> Mapping[str, int]:
        """Predicted bytes of the target, the drafter, the KV cache and the buffers."""
        return self._session.memory

    @property
    def placement(self) -> str:
        """One line about how the model was placed in memory; empty if nothing was chosen."""
        return self._session.placement

    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        media: Sequence[MediaSource] = (),
        **options: Unpack[ChatOptions],
    ) -> Reply:
        """Answers a conversation.

        What a conversation shares with the last one stays in the KV cache: only the rest of the
        prompt is processed.

        Args:
            messages: as in OpenAI's API: mappings with a `role` (`system`, which comes first,
                `user` or `assistant`) and a `content`, and perhaps `media` as below. A last
                message of the assistant is continued. A string is a single message of the user.
            media: images and sounds of the last message, before its text: paths of files, or their
                bytes.
            **options: see `ChatOptions`.

        Raises:
            TypeError: there is no option of a name.
            LocalmtpError: an option or a message is not valid, or a file cannot be read. Errors of
                generation are raised when the reply is read.
        """
        system, conversation = _conversation(messages, media)
        if system:
            if options.get("system"):
                raise LocalmtpError("there are two system prompts", hint="leave one of them out")
            options["system"] = system
        choices = checked_choices(options, ChatOptions)

        def start() -> Iterator[Event]:
            session = self._prepared(choices)
            session.messages = [
                Message(message.role, message.text, media=message.media) for message in conversation
            ]
            continues = conversation[-1].role is Role.MODEL
            return session.resume() if continues else session.answer()

        return self._reply(start)

    def complete(self, text: str, **options: Unpack[CompletionOptions]) -> Reply:
        """Continues a text, without a chat template.

        Args:
            text: preceded by BOS alone.
            **options: see `CompletionOptions`.

        Raises:
            TypeError: there is no option of a name.
            LocalmtpError: the text is empty, or an option is not valid. Errors of generation are
                raised when the reply is read.
        """
        if not text:
            raise LocalmtpError("the prompt is empty", hint="give a text to continue")
        choices = checked_choices(options, CompletionOptions)
        return self._reply(lambda: self._prepared(choices).complete(text))

    def close(self) -> None:
        """Ends what is being generated and frees the model; may be called from any thread."""
        if self._turns.close():
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepared(self, choices: Choices) -> Session:
        """The session with the settings of one reply; called when it is that reply's turn."""
        self._session.update_settings(choices.settings(self._sampling))
        return self._session

    def _reply(self, start: Callable[[], Iterator[Event]]) -> Reply:
        return Reply(self._session, self._turns, start)


def _conversation(
    messages: str | Sequence[Mapping[str, Any]], media: Sequence[MediaSource]
) -> tuple[str, list[Message]]:
    """Splits messages into the system prompt and the turns; the last one gets the media.

    Raises:
        LocalmtpError: a message is not valid, or there is none to answer.
    """
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else [*messages]
    system = ""
    if turns and turns[0].get("role") == "system":
        system = _content(turns.pop(0))
    conversation = []
    for turn in turns:
        role = _ROLES.get(turn.get("role", ""))
        if role is None:
            raise LocalmtpError(
                f"a message has the role {turn.get('role')!r}",
                hint="roles are user and assistant; system for the first message",
            )
        conversation.append(Message(role, _content(turn), media=_loaded(turn.get("media", ()))))
    if conversation:
        conversation[-1].media += _loaded(media)
    if not conversation or not (conversation[-1].text.strip() or conversation[-1].media):
        raise LocalmtpError("the prompt is empty", hint="end with a message that has a content")
    return system, conversation


def _content(turn: Mapping[str, Any]) -> str:
    content = turn.get("content")
    if not isinstance(content, str):
        raise LocalmtpError(
            f"the content of a message is {content!r:.80}", hint="it must be a string"
        )
    return content


def _loaded(sources: Sequence[MediaSource]) -> tuple[Media, ...]:
    if isinstance(sources, str | bytes | os.PathLike):
        raise TypeError("`media` is a list of files")
    return tuple(
        source
        if isinstance(source, Media)
        else media_from_bytes(source)
        if isinstance(source, bytes)
        else load_media(source)
        for source in sources
    )
