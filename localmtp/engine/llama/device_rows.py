"""Tokens chosen in the graph of a pass: samplers attached to the sequences of a context.

libllama runs such samplers on the device that computes the logits, so that a few numbers per row
come back instead of a logit for every token. Tested on CPUs and Vulkan against the host's choice.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as capi
from numpy.typing import NDArray

from localmtp.engine.llama.context import Context, Floats
from localmtp.engine.llama.library import Functions, Owned

Argmax = tuple[int, float]
"""The most probable token of a row, and its probability."""

Candidates = tuple[NDArray[np.int32], Floats]
"""The k most probable tokens of a row in any order: ids [k] and logits [k]. Views, valid until the
next decode."""

_POINTER = ctypes.c_void_p
_lib = Functions()
_TENSORS = {
    "ggml_argmax": (_POINTER, _POINTER),
    "ggml_soft_max": (_POINTER, _POINTER),
    "ggml_get_rows": (_POINTER, _POINTER, _POINTER),
    "ggml_reshape_1d": (_POINTER, _POINTER, ctypes.c_int64),
    "ggml_reshape_2d": (_POINTER, _POINTER, ctypes.c_int64, ctypes.c_int64),
}
for _name, _arguments in _TENSORS.items():
    getattr(_lib, _name).argtypes = _arguments
    getattr(_lib, _name).restype = _POINTER
_lib.ggml_nelements.argtypes = [_POINTER]
_lib.ggml_nelements.restype = ctypes.c_int64


class _SamplerData(ctypes.Structure):
    """`llama_sampler_data`: tensors that a sampler replaces."""

    _fields_ = tuple((name, _POINTER) for name in ("logits", "probs", "sampled", "candidates"))


_NAME = ctypes.CFUNCTYPE(ctypes.c_char_p, _POINTER)
_APPLY = ctypes.CFUNCTYPE(None, _POINTER, _POINTER)
_INITIALIZE = ctypes.CFUNCTYPE(ctypes.c_bool, _POINTER, _POINTER, ctypes.c_uint32)
_BUILD = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, _POINTER, ctypes.POINTER(_SamplerData))


class _Interface(ctypes.Structure):
    """`llama_sampler_i`; functions that are null are not called."""

    _fields_ = (
        ("name", _NAME),
        ("accept", _POINTER),
        ("apply", _APPLY),
        *((name, _POINTER) for name in ("reset", "clone", "free")),
        ("backend_init", _INITIALIZE),
        ("backend_accept", _POINTER),
        ("backend_apply", _BUILD),
        *((name, _POINTER) for name in ("backend_set_input", "backend_reset", "copy_state")),
    )


@_NAME  # type: ignore[untyped-decorator]
def _argmax_name(_sampler: int) -> bytes:
    return b"argmax"


@_APPLY  # type: ignore[untyped-decorator]
def _choose_nothing(_sampler: int, _candidates: int) -> None:
    """Does nothing on the host, where it is never used."""


@_INITIALIZE  # type: ignore[untyped-decorator]
def _initialize(_sampler: int, _buffer_type: int, _outputs: int) -> bool:
    return True


@_BUILD  # type: ignore[untyped-decorator]
def _build_argmax(_sampler: int, context: int, _graph: int, data: Any) -> None:
    """Adds argmax, and softmax at that token, to the graph; called when a graph is built."""
    found = data.contents
    size = _lib.ggml_nelements(found.logits)
    row = _lib.ggml_reshape_1d(context, found.logits, size)
    best = _lib.ggml_argmax(context, row)
    probabilities = _lib.ggml_reshape_2d(context, _lib.ggml_soft_max(context, row), 1, size)
    found.probs = _lib.ggml_get_rows(context, probabilities, best)
    found.logits = _lib.ggml_get_rows(context, _lib.ggml_reshape_2d(context, row, 1, size), best)
    found.sampled = best
    found.candidates = None


_argmax = _Interface(
    name=_argmax_name,
    apply=_choose_nothing,
    backend_init=_initialize,
    backend_apply=_build_argmax,
)
_lib.llama_sampler_init.argtypes = [ctypes.POINTER(_Interface), _POINTER]
_lib.llama_sampler_init.restype = _POINTER


class DeviceChain(Owned):
    """A chain of samplers for one sequence; a context initializes it once.

    Args:
        top_k: number of candidates; 0 for the most probable token alone.
        suppressed: ids of tokens that are never chosen.
    """

    def __init__(self, top_k: int, suppressed: Iterable[int]) -> None:
        self.top_k = top_k
        self.handle = capi.llama_sampler_chain_init(capi.llama_sampler_chain_default_params())
        self._finalizer = weakref.finalize(self, capi.llama_sampler_free, self.handle)
        biases = [capi.llama_logit_bias(token, float("-inf")) for token in suppressed]
        if biases:
            array = (capi.llama_logit_bias * len(biases))(*biases)
            vocabulary_size = 1 + max(bias.token for bias in biases)
            self._add(capi.llama_sampler_init_logit_bias(vocabulary_size, len(biases), array))
        if top_k:
            self._add(capi.llama_sampler_init_top_k(top_k))
        else:
            handle = _lib.llama_sampler_init(ctypes.byref(_argmax), None)
            self._add(ctypes.cast(handle, capi.llama_sampler_p_ctypes))

    def _add(self, sampler: Any) -> None:
        capi.llama_sampler_chain_add(self.handle, sampler)


def attach(context: Context, sequence: int, chain: DeviceChain | None) -> bool:
    """Lets a chain choose for a sequence from the next decode on; None: the host chooses.

    The chain must not be freed before it is replaced. The next decode allocates a new graph.

    Returns:
        Whether the context accepts it.
    """
    handle = chain.handle if chain else None
    return bool(capi.llama_set_sampler(context.handle, sequence, handle))


def _getter(function: Any, result: Any) -> Any:
    """Redeclares a getter of libllama with plain integers, which are cheaper than its pointers."""
    kind = ctypes.CFUNCTYPE(result, _POINTER, ctypes.c_int32)
    return kind(ctypes.cast(function, _POINTER).value or 0)


_token = _getter(capi.llama_get_sampled_token_ith, ctypes.c_int32)
_probability = _getter(capi.llama_get_sampled_probs_ith, _POINTER)
_count = _getter(capi.llama_get_sampled_candidates_count_ith, ctypes.c_uint32)
_ids = _getter(capi.llama_get_sampled_candidates_ith, _POINTER)
_logits = _getter(capi.llama_get_sampled_logits_ith, _POINTER)


class ArgmaxRows:
    """The choices of the last decode, by row with logits.

    Args:
        context: with chains that choose one token.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getitem__(self, at: int | slice) -> Any:
        """Returns the `Argmax` of a row, or a list of them."""
        if isinstance(at, slice):
            return [self._row(row) for row in range(at.start, at.stop)]
        return self._row(at)

    def _row(self, row: int) -> Argmax:
        context = self._context
        # Negative indices count rows with logits, positive ones those of the batch.
        index = row - context.n_outputs
        address = _probability(context.handle, index)
        return _token(context.handle, index), ctypes.c_float.from_address(address).value


class CandidateRows:
    """The candidates of the last decode, by row with logits.

    Args:
        context: with chains that choose candidates.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._views: dict[tuple[int, int, int], Candidates] = {}

    def __getitem__(self, at: int | slice) -> Any:
        """Returns the `Candidates` of a row, or a list of them."""
        if isinstance(at, slice):
            return [self._row(row) for row in range(at.start, at.stop)]
        return self._row(at)

    def _row(self, row: int) -> Candidates:
        context = self._context
        handle, index = context.handle, row - context.n_outputs
        key = _ids(handle, index), _logits(handle, index), _count(handle, index)
        view = self._views.get(key)
        if view is None:
            ids, logits, count = key
            view = (
                np.frombuffer((ctypes.c_int32 * count).from_address(ids), np.int32),
                np.frombuffer((ctypes.c_float * count).from_address(logits), np.float32),
            )
            self._views[key] = view
        return view
