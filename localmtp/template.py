"""A GGUF's own chat template, rendered in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localmtp.errors import LocalmtpError


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
        except TemplateError as error:
            raise LocalmtpError(
                f"the model's chat template is broken: {error}", hint="prompt it with --raw"
            ) from error

    def render(self, messages: Sequence[Mapping[str, str]], *, think: bool) -> str:
        """The prompt, up to and including the opening of the model's turn.

        Args:
            messages: with `role` (system, user, assistant) and `content`.
            think: whether the model is asked to think first.

        Raises:
            LocalmtpError: the template refuses these messages.
        """
        try:
            return self._template.render(
                messages=messages,
                bos_token=self._bos,
                add_generation_prompt=True,
                enable_thinking=think,
            )
        except TemplateError as error:
            raise LocalmtpError(
                f"the model's chat template refuses the conversation: {error}"
            ) from error


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
