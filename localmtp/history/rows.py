"""Rows of the database as messages, settings and statistics, and back.

A file may be written by a later version, or by anything else: values that are not understood are
left out, and nothing here raises.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from enum import Enum
from math import isfinite
from typing import TYPE_CHECKING, Any

from localmtp.engine.events import FinishReason
from localmtp.engine.stats import Stats, TimeSpent
from localmtp.session.ranges import is_number, violated_range
from localmtp.unicode import replace_surrogates

if TYPE_CHECKING:
    from localmtp.session import Message, Settings
    from localmtp.session.tools import ToolStep

MESSAGE_COLUMNS = "role, text, thought, finish, stats, steps"

MessageRow = tuple[str, str, str, str | None, str | None, str | None]
"""Values of `MESSAGE_COLUMNS`."""


def message_row(message: Message) -> MessageRow:
    """Returns the row of a message."""
    stats = json.dumps(asdict(message.stats)) if message.stats else None
    text, thought = replace_surrogates(message.text), replace_surrogates(message.thought)
    steps = json.dumps([asdict(step) for step in message.steps]) if message.steps else None
    finish = message.finish and message.finish.value
    return message.role.value, text, thought, finish, stats, steps


def messages_from(rows: Sequence[Sequence[object]]) -> tuple[list[Message], bool]:
    """Returns the messages of `MESSAGE_COLUMNS`, and whether all of their roles are known.

    Messages of unknown roles are returned as the model's.
    """
    from localmtp.session import Message, Role

    messages, known = [], True
    for role, text, thought, finish, stats, steps in rows:
        author = Role.USER if role == Role.USER else Role.MODEL
        known = known and role == author
        reason = None if author is Role.USER else _finish(finish)
        message = Message(author, text_from(text), text_from(thought), reason, _stats(stats))
        message.steps = _steps(steps)
        messages.append(message)
    return messages, known


def settings_row(settings: Settings) -> str:
    """Returns settings as JSON, without the template, which belongs to the model."""
    saved = asdict(settings)
    del saved["template"]
    return json.dumps(saved)


def settings_from(stored: object) -> Settings | None:
    """Returns settings of `settings_row`; invalid or unknown ones have their defaults.

    Returns:
        None if there are none.
    """
    from localmtp.engine.sampling.params import SamplingParams
    from localmtp.session import Settings

    saved = _json_object(stored)
    if saved is None:
        return None
    sampling = saved.pop("sampling", None)
    params = _valid(sampling if isinstance(sampling, dict) else {}, SamplingParams())
    return Settings(**_valid(saved, Settings()), sampling=SamplingParams(**params))


def text_from(value: object) -> str:
    """Returns a column of text, whatever it contains."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def number_from(value: object) -> float:
    """Returns a column of numbers; 0 if it contains something else."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else 0.0


def _finish(stored: object) -> FinishReason:
    if stored is None:
        # The process ended while the answer was generated.
        return FinishReason.CANCELLED
    try:
        return FinishReason(text_from(stored))
    except ValueError:
        return FinishReason.STOP


def _steps(stored: object) -> tuple[ToolStep, ...]:
    """Returns the steps of an answer; none if one is not as `message_row` writes it."""
    from localmtp.engine.text.tool_calls import ToolCall
    from localmtp.session.tools import ToolStep

    if stored is None:
        return ()
    steps = []
    try:
        for saved in json.loads(text_from(stored)):
            calls = tuple(
                ToolCall(str(call["name"]), dict(call["arguments"]), str(call["id"]))
                for call in saved["calls"]
            )
            results = tuple(map(str, saved["results"]))
            if len(results) != len(calls):
                return ()
            steps.append(ToolStep(str(saved["text"]), str(saved["thought"]), calls, results))
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()
    return tuple(steps)


def _stats(stored: object) -> Stats | None:
    """Returns None for statistics of a version that measured other things."""
    saved = _json_object(stored)
    if saved is None:
        return None
    spent = _fields_of(TimeSpent, saved.pop("time", None))
    rest = _fields_of(Stats, saved, absent=frozenset({"time"}))
    return None if spent is None or rest is None else Stats(**rest, time=TimeSpent(**spent))


def _fields_of(
    kind: type[Stats | TimeSpent], saved: object, absent: frozenset[str] = frozenset()
) -> dict[str, Any] | None:
    """Returns the arguments of a dataclass; None if one is missing or of another type.

    Args:
        kind: a dataclass.
        saved: of JSON.
        absent: fields to leave out.
    """
    if not isinstance(saved, dict):
        return None
    values = {}
    for field in fields(kind):
        if field.name in absent or (field.name not in saved and field.default is not MISSING):
            continue
        value = saved.get(field.name)
        if not _TYPES.get(str(field.type), lambda _: False)(value):
            return None
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return values


def _valid(saved: dict[str, Any], default: object) -> dict[str, Any]:
    """Returns the entries that are fields of `default`, of its types and in range."""
    chosen: dict[str, Any] = {}
    for field in fields(default):  # type: ignore[arg-type]
        name, usual = field.name, getattr(default, field.name)
        if name not in saved:
            continue
        value = saved[name]
        if isinstance(usual, Enum):
            with suppress(ValueError):
                chosen[name] = type(usual)(value)
        elif isinstance(usual, tuple):
            if name == "dry_sequence_breakers" and _is_texts(value):
                chosen[name] = tuple(map(replace_surrogates, value))
            elif name == "logit_bias" and _is_logit_bias(value):
                chosen[name] = tuple(map(tuple, value))
        elif isinstance(usual, bool | str):
            if type(value) is type(usual):
                chosen[name] = replace_surrogates(value) if isinstance(value, str) else value
        elif value is None and usual is None:
            chosen[name] = None
        elif is_number(value) and not violated_range(name, value):
            chosen[name] = value
    return chosen


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_logit_bias(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], int)
        and all(map(is_number, pair))
        for pair in value
    )


def _json_object(stored: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text_from(stored))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_TYPES: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: is_number(value) and isinstance(value, int),
    "float": is_number,
    "float | None": lambda value: value is None or is_number(value),
    "str": lambda value: isinstance(value, str),
    "tuple[float, ...]": lambda value: isinstance(value, list) and all(map(is_number, value)),
}
"""Checks of JSON values by the annotation of a field of `Stats` or `TimeSpent`."""
