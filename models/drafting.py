"""Kinds of drafting that a target allows, for `localmtp show`."""

from __future__ import annotations

from collections.abc import Mapping

from localmtp.engine.compatibility import (
    HEADS,
    TARGET,
    DrafterKind,
    Traits,
    why_no_head,
)
from localmtp.models.files import LOOKUP


def kinds_of_drafting(target: Traits, *, drafter: str, why_not: str) -> Mapping[str, str]:
    """Returns what each kind of drafting needs, or why the target does not allow it.

    Args:
        target: traits of the target.
        drafter: its own MTP drafter; empty without one.
        why_not: reason why there is none.

    Returns:
        `yes` or `no`, with a reason, by the name of the kind.
    """
    return {
        DrafterKind.ASSISTANT.value: _assistant(target, drafter, why_not),
        DrafterKind.HEAD.value: _head(target, drafter),
        DrafterKind.MODEL.value: (
            "yes, with `--drafter FILE`: any smaller model with the same vocabulary of "
            f"{target.n_vocab} tokens"
        ),
        LOOKUP: "yes, where the text repeats",
    }


def _assistant(target: Traits, drafter: str, why_not: str) -> str:
    if target.architecture != TARGET:
        return "no: only Gemma 4 has assistants"
    return f"yes: {drafter}" if drafter else f"no: {why_not}"


def _head(target: Traits, drafter: str) -> str:
    if target.has_head and target.n_heads > 1:
        return f"yes, {target.n_heads} in the target's file, one for each drafted token"
    if target.has_head:
        return "yes, in the target's file"
    if target.architecture not in HEADS:
        return f"no: libllama runs no head of the architecture `{target.architecture}`"
    if drafter:
        return f"yes: {drafter}"
    if why_not := why_no_head(target):
        return f"no: {why_not}"
    return "no: the file holds none; `--drafter FILE` names one in a file of its own"
