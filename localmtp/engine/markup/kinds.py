"""Markers that models write around thoughts and tool calls, recognized from their templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum


class Notation(Enum):
    """Notations of tool calls; see `tool_calls`."""

    NONE = "none"
    GEMMA = "gemma"
    """`call:NAME{key:value}`, with a token around strings."""
    JSON = "json"
    """`{"name": …, "arguments": …}`: Hermes, Qwen 2.5 and 3, Llama 3, older Mistral."""
    XML = "xml"
    """`<function=NAME><parameter=KEY>VALUE</parameter></function>`: Qwen 3 Coder and 3.5."""
    ARGS = "args"
    """`NAME[ARGS]{…}`: newer Mistral."""


@dataclass(frozen=True, slots=True)
class Markup:
    """Markers of one kind of template."""

    thought: tuple[str, str] = ("", "")
    """Around a thought; empty if the model does not think."""
    name: str = ""
    """Written after the opening marker of a thought."""
    call: tuple[str, str] = ("", "")
    """Around a tool call; the second is empty if the turn, or the next call, ends it."""
    notation: Notation = Notation.NONE
    quote: str = ""
    """Token around strings in tool calls."""
    as_tokens: bool = False
    """Only the tokens of the markers mark anything; text that looks like them does not. Otherwise
    markers may be written in any tokens."""

    bare: tuple[str, ...] = ()
    """Beginnings, without spaces, of an answer that is a tool call without markers."""
    unopened: str = ""
    """Beginning of a tool call whose opening marker the model leaves out at times."""
    inside: tuple[str, ...] = ()
    """Special tokens within a tool call that belong to its text."""
    arguments: str = "arguments"
    """Key of the arguments in JSON."""
    listed: bool = False
    """Whether calls are written as a JSON list."""

    @property
    def all(self) -> tuple[str, ...]:
        """All markers that are not empty, without `quote`."""
        return tuple(filter(None, (*self.thought, *self.call)))

    def opens_thought(self, prompt: str) -> bool:
        """Returns whether a rendered prompt ends with the opening of a thought."""
        opening = f"{self.thought[0]}{self.name}".rstrip()
        return bool(opening) and prompt.rstrip().endswith(opening)

    def as_written(self, thought: str, answer: str) -> str:
        """Returns a partial turn as the model writes it: the inverse of `Detokenizer`."""
        opening, closing = self.thought
        if not thought or not opening:
            return answer
        if self.as_tokens:
            return f"{opening}{self.name}{thought}" + (f"{closing}{answer}" if answer else "")
        return f"{opening}\n{thought}" + (f"{closing}\n\n{answer}" if answer else "")

    def continued(self, prompt: str, thought: str, answer: str) -> tuple[str, bool]:
        """Returns a prompt with the beginning of an answer, and whether it ends inside a thought.

        Args:
            prompt: rendered; it may have opened a thought.
            thought: quoted, as `answer`; both may be empty.
            answer: what follows the thought.
        """
        opened = self.opens_thought(prompt)
        if not thought and not answer:
            return prompt, opened
        begun = self.as_written(thought, answer)
        if opened and thought:
            begun = begun.removeprefix(self.thought[0]).removeprefix(self.name or "\n")
        elif opened:
            begun = f"{self.thought[1]}{begun}" if self.name else f"\n{self.thought[1]}\n\n{begun}"
        return prompt + begun, bool(thought and not answer)


NO_MARKUP = Markup()

GEMMA4 = Markup(
    ("<|channel>", "<channel|>"),
    "thought\n",
    ("<|tool_call>", "<tool_call|>"),
    Notation.GEMMA,
    '<|"|>',
    as_tokens=True,
)

_TAGS = ("<think>", "</think>")
_CALL_TAGS = ("<tool_call>", "</tool_call>")

_XML = Markup(_TAGS, "", _CALL_TAGS, Notation.XML, unopened="<function=")
_MAGISTRAL = ("[THINK]", "[/THINK]")
_OLD_MISTRAL = Markup(call=("[TOOL_CALLS]", ""), notation=Notation.JSON, listed=True)
_MISTRAL = Markup(call=("[TOOL_CALLS]", ""), notation=Notation.ARGS, inside=("[ARGS]", "[CALL_ID]"))
_LLAMA = Markup(
    call=("<|python_tag|>", ""),
    notation=Notation.JSON,
    bare=('{"name":"', '{"type":"function"', '{"function":'),
    arguments="parameters",
)
"""Llama 3 and 4 write a call as the whole answer; `<|python_tag|>` precedes some."""

_TEMPLATES = (
    (("<|channel>",), GEMMA4),
    (("<|tool_call>",), GEMMA4),
    (("<tool_call>", "<function="), _XML),
    (("<tool_call>",), Markup(_TAGS, "", _CALL_TAGS, Notation.JSON)),
    (("[TOOL_CALLS]", "[THINK]", "[ARGS]"), replace(_MISTRAL, thought=_MAGISTRAL)),
    (("[TOOL_CALLS]", "[THINK]"), replace(_OLD_MISTRAL, thought=_MAGISTRAL)),
    (("[TOOL_CALLS]", "[ARGS]"), _MISTRAL),
    (("[TOOL_CALLS]",), _OLD_MISTRAL),
    (("</think>",), Markup(_TAGS)),
    (("<|start_header_id|>", '"parameters":'), _LLAMA),
    (("<|header_start|>", '"parameters":'), _LLAMA),
)  # fmt: skip
"""Texts that a template contains, and its markup: the first match decides."""

TURNS = (
    "<|turn>",
    "<start_of_turn>",
    "<|im_start|>",
    "<|start_header_id|>",
    "<|start|>",
    "[INST]",
    "<|user|>",
    "<|User|>",
    "<\uff5cUser\uff5c>",
    "<|START_OF_TURN_TOKEN|>",
)
"""Control tokens that open turns, of Gemma 4 and 3, ChatML, Llama 3, gpt-oss, Mistral, Phi and
GLM, DeepSeek, and Cohere."""


def markup_of(template: str, is_token: Callable[[str], bool]) -> Markup:
    """Returns the markup of a model.

    Args:
        template: source of its chat template; may be empty.
        is_token: whether the vocabulary has a token with this text.
    """
    for texts, markup in _TEMPLATES:
        if all(text in template for text in texts):
            return markup
    if is_token(GEMMA4.thought[0]) or is_token(GEMMA4.call[0]):
        return GEMMA4
    return Markup(_TAGS) if is_token(_TAGS[0]) else NO_MARKUP


def longest_prefix_at_end(text: str, markers: tuple[str, ...]) -> int:
    """Length of the longest end of a text with which a marker may begin."""
    most = max(map(len, markers), default=1) - 1
    for length in range(min(most, len(text)), 0, -1):
        end = text[-length:]
        if any(marker.startswith(end) for marker in markers):
            return length
    return 0
