"""A GGUF's own chat template, rendered in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, meta
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localmtp.engine.text.quoting import quote_all, quote_message
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


_STEPS = 100_000
"""Numbers that the ranges of one rendering may hold together: templates come with files from
strangers, and loops in loops would keep the machine busy for ever. Honest ones need none."""

_LENGTH = 1_000_000
"""Longest text or list that a template may repeat something to."""


class _Bounded(ImmutableSandboxedEnvironment):
    """A sandbox that also ends loops over ranges, and repetitions."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        self.left = _STEPS
        self.globals["range"] = self._range
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = datetime.now().strftime

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would fill the memory."""
        pair = (left, right)
        if operator == "**" and any(abs(value) > _STEPS for value in pair):
            _refuse("a power of large numbers")
        size = next((len(value) for value in pair if hasattr(value, "__len__")), 0)
        times = next((value for value in pair if isinstance(value, int)), 0)
        if size * times > _LENGTH:
            _refuse("a repetition without end")
        return super().call_binop(context, operator, left, right)

    def _range(self, *bounds: int) -> range:
        steps = range(*bounds)
        self.left -= len(steps)
        if self.left < 0:
            _refuse("loops without end")
        return steps


class ChatTemplate:
    """Messages to the prompt that the model was trained on.

    Args:
        source: Jinja2 text, as in `tokenizer.chat_template` of the GGUF.
        bos: what the template prints where it names `bos_token`.

    Raises:
        LocalmtpError: the template is not valid Jinja2.
    """

    def __init__(self, source: str, *, bos: str) -> None:
        environment = self._environment = _Bounded()
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
        """Returns the prompt, up to and including the opening of the model's turn.

        Its content is quoted (see `quoting`): `retokenize` reads it, `unquote` shows it.

        Args:
            messages: with `role` (system, user, assistant, tool) and `content`; those of the
                assistant may have `tool_calls`, whose arguments are mappings.
            think: whether the model is asked to think first.
            tools: functions that the model may call, as JSON schemas in OpenAI's form.

        Raises:
            LocalmtpError: the template refuses these messages.
        """
        self._environment.left = _STEPS
        try:
            return self._template.render(
                messages=[quote_message(message) for message in messages],
                bos_token=self._bos,
                add_generation_prompt=True,
                enable_thinking=think,
                tools=quote_all(tools) or None,
            )
        except _REFUSALS as error:
            raise LocalmtpError(
                f"the model's chat template refuses the conversation: {error}"
            ) from error


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
