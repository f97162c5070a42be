"""The Jinja dialect of chat templates, as transformers renders it.

Follows `_compile_jinja_template` of transformers 5: loop controls, `{% generation %}` around the
model's text, `tojson` without HTML escapes, `raise_exception`, `strftime_now`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from localmtp.engine.text.quoting import restore_quotes


class GenerationTag(Extension):
    """`{% generation %}` marks the model's text for training; transparent here."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Parses the block; as in transformers, it is a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("content"), [], [], body).set_lineno(line)

    def content(self, caller: Macro) -> str:
        """Returns the rendered block."""
        return str(caller())


class DictFunction:
    """`dict(…)`, without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Returns a new dictionary."""
        return dict(*args, **kwargs)


class PublicNamespace(Namespace):
    """`namespace(…)`, whose attributes may not start with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        namespace, *given = args
        attributes = dict(*given, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(namespace, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot store {name!r}")


def refuse(message: str) -> NoReturn:
    """`raise_exception(…)`."""
    raise TemplateError(message)


def strftime_now(form: str) -> str:
    """`strftime_now(…)`: local time."""
    return datetime.now().strftime(form)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson`: unlike Jinja's, without HTML escapes."""
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    return restore_quotes(text) if ensure_ascii else text


def printed(value: Any) -> Any:
    """Returns a value as printed; restores quoted characters that `repr` escapes."""
    return restore_quotes(str(value)) if isinstance(value, list | tuple | Mapping) else value


TEXT_FILTERS = frozenset(
    ("capitalize", "e", "escape", "forceescape", "lower", "string", "title", "trim", "upper")
)
"""Filters that convert their operand to a string."""


def _of_printed(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def filtered(value: Any, *args: Any, **kwargs: Any) -> Any:
        return function(printed(value), *args, **kwargs)

    return filtered


DIALECT_FILTERS: Mapping[str, Callable[..., Any]] = {
    **FILTERS,
    **{name: _of_printed(FILTERS[name]) for name in TEXT_FILTERS},
    "tojson": to_json,
}

EXTENSIONS = (GenerationTag, loopcontrols)
OPTIONS: Mapping[str, Any] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "extensions": EXTENSIONS,
    "finalize": printed,
}


def install_dialect(environment: ImmutableSandboxedEnvironment) -> None:
    """Adds the dialect's functions and filters to an environment made with `OPTIONS`."""
    environment.filters = dict(DIALECT_FILTERS)
    environment.globals |= {
        "dict": DictFunction(),
        "namespace": PublicNamespace,
        "raise_exception": refuse,
        "strftime_now": strftime_now,
    }
    # Text of any length from one call; no chat template has a use for it.
    del environment.globals["lipsum"]
