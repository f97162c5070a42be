"""Two harmless tools, to try tools without any server."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_LONGEST = 200
"""Characters of an expression."""
_LARGEST = 1e100
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@dataclass(frozen=True, slots=True)
class BuiltinTool:
    """A function of this program that a model may call."""

    name: str
    description: str
    schema: Mapping[str, Any]
    run: Callable[[Mapping[str, Any]], str]
    """Takes the arguments; raises ValueError for arguments that it does not accept."""


def _clock(_arguments: Mapping[str, Any]) -> str:
    now = datetime.now().astimezone()
    return f"{now:%A}, {now.isoformat(timespec='seconds')}"


def _calculator(arguments: Mapping[str, Any]) -> str:
    text = str(arguments.get("expression", ""))[: _LONGEST + 1]
    if len(text) > _LONGEST:
        raise ValueError(f"the expression has more than {_LONGEST} characters")
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("the expression is not valid") from error
    except ArithmeticError as error:
        raise ValueError(str(error)) from error
    return str(value)


def _value(node: ast.AST) -> float | int:
    number: Any
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        number = node.value
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and (abs(right) > 1000 or abs(left) > 1e9):
            raise ValueError("the power is too large")
        number = _OPERATORS[type(node.op)](left, right)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        number = _OPERATORS[type(node.op)](_value(node.operand))
    else:
        raise ValueError("only numbers and + - * / // % ** are allowed")
    if isinstance(number, complex) or abs(number) > _LARGEST:
        raise ValueError("the result is too large, or no number")
    return float(number) if isinstance(number, float) else int(number)


BUILTIN = (
    BuiltinTool(
        "clock",
        "Returns the current date, weekday and time of this machine.",
        {"type": "object", "properties": {}},
        _clock,
    ),
    BuiltinTool(
        "calculator",
        "Computes an arithmetic expression with + - * / // % ** and parentheses.",
        {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "such as (2 + 3) * 4"}},
            "required": ["expression"],
        },
        _calculator,
    ),
)
