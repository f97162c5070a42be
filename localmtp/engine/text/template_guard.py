"""Chat templates within a budget.

Templates come from untrusted files. The guarded environment runs only operations whose cost is
proportional to their operands, and counts it. Templates that take too long are refused. Other
operations, and memory beyond the budget, raise `BeyondGuardError`: the caller then renders in a
child process (see `template_process`). So ordinary templates need no process, and none can run or
grow without limit.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from time import monotonic, thread_time
from typing import Any

from jinja2 import Template, meta
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localmtp.engine.text.template_dialect import (
    DIALECT_FILTERS,
    OPTIONS,
    TEXT_FILTERS,
    DictFunction,
    GenerationTag,
    PublicNamespace,
    install_dialect,
    printed,
    refuse,
    strftime_now,
    to_json,
)
from localmtp.engine.text.template_hooks import CountingGenerator, CountingHooks

_UNITS = 256 << 20
"""Budget of one rendering: bytes of all strings and lists that it creates."""

_SECONDS = 6
"""Limit of CPU seconds of the thread, which do not depend on the load of the machine. The time of
Gemma 4's template grows with the square of the number of messages: 1 s for some 600."""

_WALL_SECONDS = 10
"""Limit of elapsed seconds, for a busy machine."""

_ELEMENT = 64
"""Units per element of a list, including the object it refers to."""

_LARGE = 1 << 18
"""Units of an operation after which the clock is read."""

_STEPS_PER_LOOK = 32
"""Steps between two readings of the clock, each of which takes as long as a step."""

_FILTERS = """
abs attr capitalize count d default dictsort e escape first float forceescape int items last length
list lower map max min reject rejectattr reverse round safe select selectattr sort string title
trim unique upper wordcount
"""
_LINEAR_FILTERS = frozenset(_FILTERS.split())
_SPLITTING = frozenset(
    ("list", "sort", "split", "splitlines", "rsplit", "title", "unique", "wordcount")
)
"""Filters and methods that make a list of a string's parts."""

_METHODS = """
capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric
isspace isupper lower lstrip partition removeprefix removesuffix rfind rpartition rsplit rstrip
split splitlines startswith strip swapcase title upper
"""
_LINEAR_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(_METHODS.split()),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    list: frozenset(("copy", "count", "index")),
    tuple: frozenset(("count", "index")),
    LoopContext: frozenset(("changed", "cycle")),
}
_FUNCTIONS = (refuse, strftime_now, PublicNamespace)
_CALLABLES = (Macro, LoopContext, DictFunction)
_PLAIN = (str, int, float, bool, type(None), Undefined)
_LARGEST_NUMBER = 1 << 256


class BeyondGuardError(Exception):
    """Rendering needs an operation that is not guarded, or more memory than the budget."""


class TooSlowError(Exception):
    """Rendering takes longer than the time in the message."""


@dataclass(slots=True)
class _Budget:
    left: int = _UNITS
    steps: int = 0
    deadline: float = field(default_factory=lambda: thread_time() + _SECONDS)
    wall_deadline: float = field(default_factory=lambda: monotonic() + _WALL_SECONDS)

    def spend(self, units: int) -> None:
        self.left -= units
        self.steps += 1
        if self.left < 0:
            raise BeyondGuardError
        looks = not self.steps % _STEPS_PER_LOOK or units > _LARGE
        if looks and (thread_time() > self.deadline or monotonic() > self.wall_deadline):
            raise TooSlowError(f"{_SECONDS} s")


class _Each:
    """Counts the iterations of a `for`."""

    def __init__(self, values: Any, spend: Callable[[int], None]) -> None:
        self._values, self._spend = values, spend

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._spend(0)
            yield value


class _SizedEach(_Each):
    def __len__(self) -> int:
        return len(self._values)


class GuardedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that counts. Thread-safe: each thread has its budget."""

    code_generator_class = CountingGenerator
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(**OPTIONS)
        self._local = threading.local()
        install_dialect(self)
        self.globals["range"] = self._range
        self.finalize = self._printed
        self.concat = self._concat  # type: ignore[method-assign]
        self.filters = {
            name: self._guarded(name, function) for name, function in DIALECT_FILTERS.items()
        }
        self.filters |= {
            "_each": self._each,
            "_made": self.made,
            "_step": self._step,
            "join": self._join,
            "replace": self._replace,
            "tojson": self._tojson,
        }

    def compiled(self, source: str) -> tuple[Template, set[str]]:
        """Compiles a template.

        Returns:
            The template, and the names that it expects to be given.

        Raises:
            Exception: of any type, if it is not valid.
        """
        with self.budget():  # constant expressions are evaluated while compiling
            tree = self.parse(source)
            names = meta.find_undeclared_variables(tree)
            return self.from_string(CountingHooks().visit(tree)), names

    @contextmanager
    def budget(self) -> Iterator[None]:
        """Gives this thread a new budget, for the block."""
        self._local.budget = _Budget()
        try:
            yield
        finally:
            self._local.budget = None

    def spend(self, units: int) -> None:
        """Takes units from the budget.

        Raises:
            BeyondGuardError: none are left.
        """
        self._local.budget.spend(units)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Calls a function known to be linear in its operands."""
        self = __self
        self.spend(0)
        if isinstance(__obj, _CALLABLES) or __obj in _FUNCTIONS or __obj == self._range:
            self.spend(_size(list(args)) if isinstance(__obj, LoopContext) else 0)
        elif isinstance(owner := _owner(__obj), GenerationTag | Undefined):
            pass
        elif getattr(__obj, "__name__", "") in _LINEAR_METHODS.get(type(owner), ()):
            self.spend(_size(owner) + _parts(owner, __obj.__name__, *args[:1]))
        elif isinstance(owner, str) and __obj.__name__ in ("replace", "join", "format"):
            self._check_text_method(owner, __obj.__name__, args, kwargs)
        else:
            raise BeyondGuardError
        result = super().call(__context, __obj, *args, **kwargs)
        self.spend(_size(result))
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Applies an operator after counting its result."""
        numbers = all(isinstance(value, int | float) for value in (left, right))
        if operator == "+":
            self.spend(0 if numbers else self._deep(left) + self._deep(right))
        elif numbers:
            bounded = abs(left) < _LARGEST_NUMBER and abs(right) < _LARGEST_NUMBER
            if not bounded or (operator == "**" and abs(right) > 64):
                raise BeyondGuardError
        elif operator == "*":
            size, times = (
                max(0, v) if isinstance(v, int) else self._deep(v) for v in (left, right)
            )
            self.spend(size * times)
        else:
            raise BeyondGuardError
        return super().call_binop(context, operator, left, right)

    def joined(self, parts: tuple[Any, ...]) -> str:
        """The operator `~`."""
        return self._concat(str(self._printed(part)) for part in parts)

    def made(self, value: Any) -> Any:
        """Counts a new list, dictionary or slice."""
        self._deep(value)
        return value

    def _printed(self, value: Any) -> Any:
        """Counts a value that is about to be printed."""
        self._deep(value)
        return printed(value)

    def _concat(self, parts: Iterable[str]) -> str:
        texts = []
        for part in parts:
            self.spend(_size(part))
            texts.append(part)
        return "".join(texts)

    def _deep(self, value: Any) -> int:
        """Spends the size of a value with all that it contains, as printing it would.

        Raises:
            BeyondGuardError: it is larger than the budget, or not plain data.
        """
        total = units = 0
        waiting = [value]
        while waiting:
            value = waiting.pop()
            units += _ELEMENT
            if isinstance(value, str):
                units += _size(value)
            elif isinstance(value, list | tuple):
                waiting += value
            elif isinstance(value, Mapping):
                waiting += value.keys()
                waiting += value.values()
            elif not isinstance(value, _PLAIN):
                raise BeyondGuardError
            if units > _LARGE:
                self.spend(units)
                total, units = total + units, 0
        self.spend(units)
        return total + units

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        context_first = getattr(function, "jinja_pass_arg", None) is not None

        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            value = args[context_first] if len(args) > context_first else None
            if name not in _LINEAR_FILTERS:
                raise BeyondGuardError
            self.spend(_size(value) + _parts(value, name))
            if name in TEXT_FILTERS:
                self._deep(value)
            result = function(*args, **kwargs)
            self.spend(_size(result))
            return result

        return guarded

    def _each(self, values: Any) -> Any:
        kind = _SizedEach if isinstance(values, Sized) else _Each
        return kind(values, self.spend)

    def _step(self, value: Any) -> Any:
        self.spend(0)
        return value

    def _range(self, *bounds: int) -> range:
        steps = range(*bounds)
        self.spend(len(steps))
        return steps

    def _join(self, value: Any, d: Any = "", attribute: Any = None) -> str:
        if attribute is not None:
            raise BeyondGuardError
        self.spend(_ELEMENT * len(value) if isinstance(value, str) else 0)
        values = list(self._each(value))
        return self._concat(str(self._printed(v)) for v in _between(values, d))

    def _replace(self, value: Any, old: str, new: str, count: int | None = None) -> str:
        text = str(self._printed(value))
        self._check_text_method(text, "replace", (str(old), str(new)), {})
        return text.replace(str(old), str(new), -1 if count is None else count)

    def _check_text_method(self, text: str, name: str, args: Any, kwargs: Any) -> None:
        size = self._deep([*args, *kwargs.values()]) if name != "join" else 0
        if name == "replace":
            found = text.count(args[0]) if args and isinstance(args[0], str) else 0
            self.spend(_size(text) + found * (_size(args[1]) if len(args) > 1 else 0))
        elif name == "join" and len(args) == 1 and isinstance(args[0], list | tuple):
            self.spend(self._deep(args[0]) + _size(text) * len(args[0]))
        elif name == "format" and ":" not in text and "!" not in text:
            self.spend(_size(text) + size * text.count("{"))
        else:
            raise BeyondGuardError

    def _tojson(self, value: Any, *args: Any, **kwargs: Any) -> str:
        size = self._deep(value)
        indent = kwargs.get("indent", args[1] if len(args) > 1 else None)
        if indent is not None:
            depth = _depth(value)
            width = indent if isinstance(indent, int) else len(indent)
            self.spend(size * (1 + max(0, width) * depth // _ELEMENT))
        if separators := kwargs.get("separators", args[2] if len(args) > 2 else None):
            self.spend(size * sum(map(len, separators)))
        return to_json(value, *args, **kwargs)


def _owner(function: Any) -> Any:
    """Returns the object whose method a function is; an undefined value itself."""
    if isinstance(function, Undefined):
        return function
    return getattr(getattr(function, "__wrapped__", function), "__self__", None)


def _size(value: Any) -> int:
    """Units of the value alone, without what it contains."""
    if isinstance(value, str):
        return sys.getsizeof(value)
    return _ELEMENT * len(value) if isinstance(value, list | tuple | dict) else 0


def _parts(value: Any, name: str, separator: object = None) -> int:
    """Units of the list that a filter or method makes of a string."""
    if not isinstance(value, str) or name not in _SPLITTING:
        return 0
    if isinstance(separator, str) and separator:
        return _ELEMENT * (1 + value.count(separator))
    return _ELEMENT * len(value)


def _between(values: list[Any], separator: Any) -> Iterator[Any]:
    for number, value in enumerate(values):
        if number:
            yield separator
        yield value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner: list[Any] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, list | tuple):
                inner += each
        level = inner
    return depth
