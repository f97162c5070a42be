"""A GGUF's own chat template, rendered in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localmtp.errors import LocalmtpError

_REFUSALS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template raises, on purpose or when a tool's schema is not shaped as it expects."""


class ChatTemplate:
    """Messages to the prompt that the model was trained on.

    Args:
        source: Jinja2 text, as in `tokenizer.chat_template` of the GGUF.
        bos: what the template prints where it names `bos_token`.

    Raises:
        LocalmtpError: the template is not valid Jinja2.
    """

    def __init__(self, source: str, *, bos: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = datetime.now().strftime
        self._bos = bos
        try:
            self._template = environment.from_string(source)
            variables = meta.find_undeclared_variables(environment.parse(source))
        except TemplateError as error:
            raise LocalmtpError(
                f"the model's chat template is broken: {error}", hint="prompt it with --raw"
            ) from error
        self.knows_tools = "tools" in variables
        """Whether it tells the model of functions that it may call."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        think: bool,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The prompt, up to and including the opening of the model's turn.

        Args:
            messages: with `role` (system, user, assistant, tool) and `content`; those of the
                assistant may have `tool_calls`, whose arguments are mappings.
            think: whether the model is asked to think first.
            tools: functions that the model may call, as JSON schemas in OpenAI's form.

        Raises:
            LocalmtpError: the template refuses these messages.
        """
        try:
            return self._template.render(
                messages=messages,
                bos_token=self._bos,
                add_generation_prompt=True,
                enable_thinking=think,
                tools=tools or None,
            )
        except _REFUSALS as error:
            raise LocalmtpError(
                f"the model's chat template refuses the conversation: {error}"
            ) from error


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
