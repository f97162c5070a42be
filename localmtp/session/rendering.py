"""A conversation as a prompt: the messages that chat templates and servers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.session.base import Message, Role, Settings
from localmtp.session.tools import Function, step_turns
from localmtp.unicode import replace_surrogates

if TYPE_CHECKING:
    from localmtp.engine.text.chat_template import ChatTemplate

_CHAT_ROLES = {Role.USER: "user", Role.MODEL: "assistant"}


def render(
    template: ChatTemplate | None,
    name: str,
    messages: Sequence[Message],
    settings: Settings,
    tools: Sequence[Function] = (),
) -> str:
    """Renders a conversation as the prompt of its next answer.

    Without a template, the model continues the texts of the conversation, one after another.

    Args:
        template: the chat template; None if the model has none.
        name: of the model, for errors.
        messages: the conversation.
        settings: the system prompt, and whether to think.
        tools: functions that the model may call.

    Raises:
        LocalmtpError: the template rejects the conversation, or there is none and it has images.
    """
    turns = chat_turns(messages, settings)
    if template is not None:
        if tools and not template.knows_tools:
            raise LocalmtpError(
                f"the chat template of {name} does not describe tools",
                hint="choose another model or template, or switch the tools off with `/tools off`",
            )
        return template.render(turns, think=settings.thinks, tools=tools)
    from localmtp.engine.text.quoting import quote

    texts = [turn["content"] for turn in turns]
    if not all(isinstance(text, str) for text in texts):
        raise LocalmtpError(
            f"{name} has no chat template (a base model?), and no place for images or sound"
        )
    return quote("\n\n".join(filter(None, texts)))


def shown(prompt: str, media: Sequence[Media]) -> str:
    """Returns a rendered prompt as it reads, with a placeholder for each image and sound."""
    from localmtp.engine.text.quoting import MEDIA_MARK, unquote

    for each in media:
        prompt = prompt.replace(MEDIA_MARK, f"<|{each.kind}|>", 1)
    return unquote(prompt)


def chat_turns(messages: Sequence[Message], settings: Settings) -> list[dict[str, Any]]:
    """Returns a conversation as the messages of OpenAI's API: system prompt first, no thoughts.

    Dropped messages are left out. The content of messages with media is a list of parts, with the
    `type` `image`, `audio` or `text`.
    """
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.dropped:
            continue
        turns += step_turns(message.steps)
        # Without a text, an answer continues after its steps.
        if message.text or not message.steps:
            turns.append({"role": _CHAT_ROLES[message.role], "content": _content(message)})
    if settings.system:
        turns.insert(0, {"role": "system", "content": replace_surrogates(settings.system)})
    return turns


def media_of(messages: Sequence[Message]) -> list[Media]:
    """Returns the media of a conversation in the order of its prompt, without dropped messages."""
    return [each for message in messages if not message.dropped for each in message.media]


def _content(message: Message) -> str | list[dict[str, str]]:
    text = replace_surrogates(message.text)
    if not message.media:
        return text
    media = [{"type": str(each.kind)} for each in message.media]
    return [*media, {"type": "text", "text": text}] if text else media
