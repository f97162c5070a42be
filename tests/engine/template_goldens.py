"""Prompts as transformers renders them: `python -m tests.engine.template_goldens`.

Needs transformers, which the development environment does not have; writes the file next to this
module. Python's `title` sees words begin after a `<`, which quoted content hides: not compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
FOLDER = Path(__file__).with_name("chat_templates")
RECIPE = Path(__file__).parents[2] / "models" / "recipe" / "template.jinja"

_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "1",
            "type": "function",
            "function": {
                "name": "get_weather",
                "arguments": {
                    "city": "Zürich <b>",
                    "days": [1, 2],
                    "deep": {"a": True, "b": None, "c": 1.5},
                },
            },
        }
    ],
}
_RESULT = {
    "role": "tool",
    "tool_call_id": "1",
    "name": "get_weather",
    "content": '{"t": 21, "note": "<sunny> & \'warm\'"}',
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'The weather <now> "here"',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Name"},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "deep": {
                        "type": "object",
                        "properties": {"a": {"type": "boolean"}},
                        "required": ["a"],
                    },
                },
                "required": ["city"],
            },
        },
    }
]

CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], bool, list[dict[str, Any]]]] = {
    "one": (
        [{"role": "user", "content": "Hello, wörld! <tag> a < b & c > d \"q\" 'x' [list]"}],
        False,
        [],
    ),
    "system": (
        [
            {"role": "system", "content": "  Be brief.  \n"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello <b>there</b> 😀"},
            {"role": "user", "content": "More\nlines\n\n  please  "},
        ],
        True,
        [],
    ),
    "tools": ([{"role": "user", "content": "Weather?"}, _CALL, _RESULT], False, TOOLS),
    "tools-more": (
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Weather?"},
            _CALL,
            _RESULT,
            {"role": "assistant", "content": "It is warm."},
            {"role": "user", "content": "And tomorrow?"},
        ],
        True,
        TOOLS,
    ),
    "thoughts": (
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "<|channel>thought\nhm <x>\n<channel|>Hello."},
            {"role": "user", "content": "Again"},
        ],
        False,
        [],
    ),
    "parts": (
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": " one "}, {"type": "text", "text": "two <3"}],
            },
            {"role": "assistant", "tool_calls": _CALL["tool_calls"]},
            _RESULT,
        ],
        False,
        TOOLS,
    ),
}


def templates() -> dict[str, str]:
    """Sources by name; that of nano among them."""
    found = {path.stem: path for path in sorted(FOLDER.glob("*.jinja"))} | {"nano": RECIPE}
    # Exactly the bytes: a template may end in a line break or not.
    return {name: path.read_bytes().decode() for name, path in found.items()}


def main() -> None:
    """Renders everything with transformers; None stands for a refusal."""
    import transformers
    from transformers.utils.chat_template_utils import render_jinja_template

    prompts: dict[str, str | None] = {}
    for name, source in templates().items():
        for conversation, (messages, think, tools) in CONVERSATIONS.items():
            try:
                (text,), _ = render_jinja_template(
                    [messages],
                    chat_template=source,
                    add_generation_prompt=True,
                    tools=tools or None,
                    bos_token="<bos>",
                    enable_thinking=think,
                )
            except Exception:  # noqa: BLE001 - Jinja's, or what an operation raises
                text = None
            prompts[f"{name}/{conversation}"] = text
    golden = {"transformers": transformers.__version__, "prompts": prompts}
    FILE.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
