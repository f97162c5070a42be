"""Chat templates: the prompt of a conversation, as the model's file describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from localmtp.engine.text.media_marks import as_texts, media_kinds, with_marks
from localmtp.engine.text.quoting import MEDIA_MARK, quote_all, quote_message, unquote
from localmtp.engine.text.template_guard import BeyondGuardError, GuardedEnvironment, TooSlowError
from localmtp.engine.text.template_process import render_in_process, too_much
from localmtp.errors import LocalmtpError

_LONGEST = 1 << 18
"""Characters of a template; those of Gemma 4 have 20,000."""

_LONGEST_PROMPT = 1 << 24
"""Characters of a prompt: several times what the largest contexts hold."""

_LONGEST_REASON = 300
"""Characters of an error's message."""


class ChatTemplate:
    """A compiled chat template. Thread-safe.

    Args:
        source: Jinja text, `tokenizer.chat_template` of the GGUF.
        bos: text of `bos_token`.
        eos: text of `eos_token`.

    Raises:
        LocalmtpError: the template is not valid.
    """

    def __init__(self, source: str, *, bos: str, eos: str = "") -> None:
        self.source, self._bos, self._eos = source, bos, eos
        self._environment = GuardedEnvironment()
        if len(source) > _LONGEST:
            raise _broken(f"it has {len(source)} characters")
        try:
            self._template, variables = self._environment.compiled(source)
        except Exception as error:  # a file from a stranger: Jinja and Python raise many types
            nested = isinstance(error, RecursionError)
            raise _broken("it is nested too deeply" if nested else _reason(error)) from error
        self.uses_messages = "messages" in variables
        """Whether it renders conversations; otherwise every prompt is the same."""
        self.knows_tools = "tools" in variables
        """Whether it describes functions that the model may call."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        think: bool,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Returns the prompt, up to and including the opening of the model's turn.

        Its content is quoted (see `quoting`): `retokenize` reads it, `unquote` shows it.

        Args:
            messages: with `role` (system, user, assistant, tool) and `content`; those of the
                assistant may have `tool_calls`, whose arguments are mappings. A content may be a
                list of parts, with the `type` `text`, `image` or `audio`; the last two become
                `MEDIA_MARK` in the prompt.
            think: whether the model is asked to think first.
            tools: functions that the model may call, as JSON schemas in OpenAI's form.

        Raises:
            LocalmtpError: the template rejects these messages, or exceeds a limit.
        """
        variables = {
            "messages": [quote_message(message) for message in messages],
            "bos_token": self._bos,
            "eos_token": self._eos,
            "add_generation_prompt": True,
            "enable_thinking": think,
            "tools": quote_all(tools) or None,
        }
        try:
            return self._marked(variables, media_kinds(messages))
        except LocalmtpError:
            raise
        except Exception as error:
            raise LocalmtpError(
                f"the model's chat template rejects the conversation: {_reason(error)}"
            ) from error

    def _marked(self, variables: dict[str, Any], kinds: Sequence[str]) -> str:
        """Renders with a mark for each image and sound."""
        if not kinds:
            return self._rendered(variables)
        with suppress(Exception):  # a template that knows no parts may fail on them
            prompt = with_marks(self._rendered(variables), kinds)
            if prompt is not None:
                return prompt
        prompt = self._rendered(variables | {"messages": as_texts(variables["messages"])})
        if prompt.count(MEDIA_MARK) != len(kinds):
            raise LocalmtpError("the model's chat template has no place for images or sound")
        return prompt

    def _rendered(self, variables: dict[str, Any]) -> str:
        try:
            with self._environment.budget():
                prompt = self._template.render(variables)
        except TooSlowError as error:
            raise too_much(str(error)) from error
        except BeyondGuardError:
            prompt = render_in_process(self.source, variables)
        if len(prompt) > _LONGEST_PROMPT:
            raise too_much(f"{_LONGEST_PROMPT >> 20} million characters")
        return prompt


def _reason(error: Exception) -> str:
    """Returns the message of an error, which a template may have chosen, in one bounded line."""
    if isinstance(error, RecursionError):
        return "it recurses without end"
    words = " ".join(str(error)[: 2 * _LONGEST_REASON].split()) or type(error).__name__
    return unquote(words)[:_LONGEST_REASON]


def _broken(reason: str) -> LocalmtpError:
    return LocalmtpError(
        f"the model's chat template is broken: {reason}", hint="prompt it with --raw"
    )
