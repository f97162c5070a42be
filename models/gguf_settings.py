"""Checks of the settings in GGUF headers that libllama asserts on.

libllama ends the process, or never returns, for values that its own converter would not write:
see `load_hparams` in `llama-model.cpp`, `models/gemma4.cpp`, and the assertions of ggml's
operators. What is refused here is far outside of any published model. Of architectures other than
Gemma 4 only what every one of them needs is checked; a trial process finds the rest (`load_check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from localmtp.engine.compatibility import DRAFTER, TARGET, why_no_target
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import Header, Scalar

_MAX_INT = 2**31 - 1

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS

_COUNTS = {
    "block_count": (1, _MAX_LAYERS),
    "context_length": (1, _MAX_INT),
    "embedding_length": (1, 1 << 20),
    "embedding_length_out": (1, 1 << 20),
    "embedding_length_per_layer_input": (0, 1 << 16),
    "feed_forward_length": (1, 1 << 22),
    "attention.head_count": (1, 4096),
    "attention.head_count_kv": (1, 4096),
    "attention.key_length": (2, 4096),
    "attention.key_length_swa": (2, 4096),
    "attention.value_length": (2, 4096),
    "attention.value_length_swa": (2, 4096),
    "attention.sliding_window": (1, _MAX_INT),
    "attention.shared_kv_layers": (0, _MAX_LAYERS),
    "rope.dimension_count": (2, 4096),
    "rope.dimension_count_swa": (2, 4096),
    "rope.scaling.original_context_length": (1, _MAX_INT),
    "nextn_predict_layers": (0, _MAX_LAYERS),
    "expert_count": (0, _MAX_EXPERTS),
    "expert_used_count": (0, _MAX_EXPERTS),
    "expert_feed_forward_length": (0, 1 << 22),
    "expert_group_count": (0, 0),
    "vocab_size": (1, 1 << 24),
}
"""Smallest and largest value of integer settings; a setting may be missing."""

_REQUIRED = (
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.sliding_window",
)

_ANY_REQUIRED = ("block_count", "context_length", "embedding_length")

_ANY_COUNTS = {
    **{key: (0, most) for key, (_, most) in _COUNTS.items()},
    **{key: _COUNTS[key] for key in _ANY_REQUIRED},
    "attention.head_count": (0, 1 << 16),
    "expert_group_count": (0, _MAX_EXPERTS),
}
"""The same for other architectures, which have layers without attention or feed forward."""

_FACTORS = {
    "attention.layer_norm_rms_epsilon": (0.0, 1.0),
    "rope.freq_base": (1.0, 1e12),
    "rope.freq_base_swa": (1.0, 1e12),
    "rope.scaling.factor": (0.0, 1e6),
    "final_logit_softcapping": (0.0, 1e6),
}
"""Smallest and largest value of floating-point settings."""

_ROPE_SCALING = ("none", "linear", "yarn", "longrope")

_EVEN = ("attention.key_length", "attention.key_length_swa")


def check_settings(header: Header, name: str, *, complete: bool = False) -> None:
    """Checks the settings of a target or a drafter.

    Args:
        header: of the file.
        name: of the file, for the message.
        complete: whether the header was read to its end. A header read with `settings_only` may be
            missing settings, so only the values that it has are checked.

    Raises:
        LocalmtpError: libllama would abort, or hang, on a setting.
    """
    if why_no_target(header.architecture) and header.architecture != DRAFTER:
        return  # neither is loaded
    gemma = header.architecture in (TARGET, DRAFTER)
    problem = next((_problems if gemma else _problems_of_any)(header, complete), "")
    if problem:
        raise LocalmtpError(
            f"{name} has a damaged GGUF header: {problem}",
            hint="download or convert it again",
        )


def check_lengths(target: Header, drafter: Header, name: str) -> None:
    """Checks that an MTP drafter can attend to the target's KV cache.

    Args:
        target: header of the target.
        drafter: header of the drafter.
        name: of the drafter, for the message.

    Raises:
        LocalmtpError: the lengths of keys differ, or the numbers of heads do not divide.
    """
    if drafter.architecture != DRAFTER:
        return
    for key in _EVEN:
        own, needed = drafter.number(key), target.number(key)
        if own and needed and own != needed:
            raise LocalmtpError(
                f"{name} has {key} {own}; its target has {needed}",
                hint="use the drafter of the same model, or `--drafter none`",
            )
    heads, shared = drafter.number("attention.head_count"), target.number("attention.head_count_kv")
    if shared and heads % shared:
        raise LocalmtpError(
            f"{name} has {heads} attention heads; its target has {shared} for keys",
            hint="use the drafter of the same model, or `--drafter none`",
        )


def _problems(header: Header, complete: bool) -> Iterator[str]:
    layers = header.number("block_count")
    for key, (least, most) in _COUNTS.items():
        yield from _count_problems(header, key, layers, least, most)
    yield from _factor_problems(header)
    if complete:
        yield from _missing(header, _REQUIRED)
    yield from _pattern_problems(header, layers, complete)
    yield from _odd_lengths(header)
    yield from _combinations(header, layers, complete)


def _problems_of_any(header: Header, complete: bool) -> Iterator[str]:
    layers = header.number("block_count")
    for key, (least, most) in _ANY_COUNTS.items():
        yield from _count_problems(header, key, layers, least, most)
    yield from _factor_problems(header)
    if complete:
        yield from _missing(header, _ANY_REQUIRED)
    yield from _combinations(header, layers, complete)


def _factor_problems(header: Header) -> Iterator[str]:
    for key, (low, high) in _FACTORS.items():
        value = header.setting(key)
        if value is not None and not (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and isfinite(value)
            and low <= value <= high
        ):
            yield f"{key} is {_shown(value)}"


def _missing(header: Header, required: Sequence[str]) -> Iterator[str]:
    for key in required:
        if header.setting(key) is None and f"{header.architecture}.{key}" not in header.lengths:
            yield f"{key} is missing"


def _count_problems(header: Header, key: str, layers: int, least: int, most: int) -> Iterator[str]:
    value = header.setting(key)
    length = header.lengths.get(f"{header.architecture}.{key}")
    if length is not None and layers and length != layers:
        yield f"{key} has {length} elements for {layers} layers"
    elements = value if isinstance(value, tuple) else () if value is None else (value,)
    for element in elements:
        if type(element) is not int or not least <= element <= most:
            yield f"{key} is {_shown(element)}"
        elif key in _EVEN and least and element % 2:
            yield f"{key} is {element}, which is odd"


def _pattern_problems(header: Header, layers: int, complete: bool) -> Iterator[str]:
    pattern = header.setting("attention.sliding_window_pattern")
    if pattern is None and not complete:
        return
    if not isinstance(pattern, tuple) or len(pattern) < layers:
        yield "attention.sliding_window_pattern does not cover all layers"
    elif not all(isinstance(element, bool) for element in pattern):
        yield "attention.sliding_window_pattern is not of truth values"


def _odd_lengths(header: Header) -> Iterator[str]:
    for suffix in ("", "_swa"):
        length = header.number(f"attention.key_length{suffix}")
        dimensions = header.number(f"rope.dimension_count{suffix}")
        if dimensions % 2 or (length and dimensions > length):
            yield f"rope.dimension_count{suffix} is {dimensions}, with keys of length {length}"


def _combinations(header: Header, layers: int, complete: bool) -> Iterator[str]:
    number = header.number
    experts, used = number("expert_count"), number("expert_used_count")
    if (complete or experts) and used > experts:
        yield f"expert_used_count is {used}, of {experts} experts"
    if (complete or used) and experts and not used:
        yield "expert_used_count is 0"
    if number("nextn_predict_layers") > layers:
        yield f"nextn_predict_layers is {number('nextn_predict_layers')}, of {layers} layers"
    shared = number("attention.shared_kv_layers")
    if header.architecture == TARGET and shared and layers - shared < 2:
        yield f"attention.shared_kv_layers is {shared}, of {layers} layers"
    scaling = header.setting("rope.scaling.type")
    if scaling is not None and scaling not in _ROPE_SCALING:
        yield f"rope.scaling.type is {_shown(scaling)}"


def _shown(value: Scalar | tuple[Scalar, ...]) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
