"""Editions of Gemma 4's chat template, recognized from their source."""

from __future__ import annotations

import re

CURRENT = "2026-07-09"
"""Edition of Gemma 4's template that closes turns in loops of tool calls, and keeps thoughts within
them."""

_PUBLISHED = re.compile(r"Published:\s*(\d{4}-\d{2}-\d{2})")
_OFFICIAL = ("macro format_parameters", "macro strip_thinking", "<|turn>", "<|tool_call>")
"""Parts of all editions of Google's template, and of few others."""


def edition(source: str) -> str:
    """Date of an edition of Gemma 4's template; empty for editions without a date, and others."""
    found = _PUBLISHED.search(source)
    return found[1] if found and is_official(source) else ""


def is_official(source: str) -> bool:
    """Whether a source is an edition of Gemma 4's template."""
    return all(part in source for part in _OFFICIAL)


def is_outdated(source: str) -> bool:
    """Whether a source is an edition of Gemma 4's template before the current one."""
    return is_official(source) and edition(source) < CURRENT


def template_name(source: str) -> str:
    """Description of a template, for users."""
    if not source:
        return "none"
    if not is_official(source):
        return "its own"
    date = edition(source)
    return f"Gemma 4, {date}" if date else f"Gemma 4, before {CURRENT}"


def outdated_hint(source: str, name: str) -> str:
    """Warning about an outdated template; empty if there is nothing to say.

    Args:
        source: of the template.
        name: of the model.
    """
    if not is_outdated(source):
        return ""
    return (
        f"{name} has a chat template from before {CURRENT}, with which several tool calls in a row "
        "go wrong; pull a newer file, or pass `--chat-template FILE`"
    )
