"""Whether a pair has room in memory, before it is loaded."""

from __future__ import annotations

from localmtp import machine
from localmtp.engine.ggml import devices
from localmtp.errors import LocalmtpError
from localmtp.models import fit
from localmtp.models.files import ModelFiles
from localmtp.models.gguf_header import read_header
from localmtp.models.shape import Shape, shape_of

DEFAULT_CONTEXT = 8192
"""Enough for a long chat, small enough for any laptop; more is asked for with --ctx."""

LEAST_CONTEXT = 4096
"""A chat of some length; with less room than this a model is not worth having."""

_SMALL = 1 << 28
"""Files below this fit anywhere that Python runs, and start without looking."""


def context_for(files: ModelFiles, asked: int | None) -> int:
    """The context to load a pair with: the one asked for, or the default if it fits.

    Args:
        files: the pair.
        asked: tokens; None leaves the choice to the program.

    Raises:
        LocalmtpError: the pair would not fit into memory; says what would.
    """
    header = read_header(files.target, settings_only=True)
    limit = header.number("context_length") or DEFAULT_CONTEXT
    context = asked or min(DEFAULT_CONTEXT, limit)
    weights = files.target.stat().st_size
    if weights < _SMALL:
        return context
    drafter = files.drafter.stat().st_size if files.drafter else 0
    shape, usable = shape_of(header), _usable()
    if fit.need(shape, weights, drafter, context).total <= usable:
        return context
    largest = fit.largest_context(shape, weights, drafter, min(context, limit), usable)
    if asked is None and largest:
        return largest
    needed = fit.need(shape, weights, drafter, context).total
    raise LocalmtpError(
        f"{files.name} needs {needed / 1e9:.1f} GB with a context of {context}; "
        f"{usable / 1e9:.1f} GB can be used",
        hint=_what_fits(shape, weights, largest, usable),
    )


def shortage(name: str, shape: Shape, weights: int, drafter: int) -> str:
    """What memory lacks for a short chat, in words; empty when there is enough.

    Args:
        name: of the model.
        shape: of the target.
        weights: bytes of the target's file.
        drafter: bytes of the drafter's file; 0 without one.
    """
    needed = fit.need(shape, weights, drafter, LEAST_CONTEXT).total
    if weights < _SMALL or needed <= (usable := _usable()):
        return ""
    return (
        f"{name} needs {needed / 1e9:.1f} GB of memory for {LEAST_CONTEXT} tokens of context, "
        f"{usable / 1e9:.1f} GB can be used"
    )


def _what_fits(shape: Shape, weights: int, largest: int, usable: int) -> str:
    if largest:
        return f"a smaller context fits: --ctx {largest}"
    alone = fit.largest_context(shape, weights, 0, DEFAULT_CONTEXT, usable)
    if alone:
        return f"it fits without its drafter: --drafter none --ctx {alone}"
    return "`localmtp doctor` shows which models fit"


def _usable() -> int:
    return machine.memory().usable + sum(device.free for device in devices())
