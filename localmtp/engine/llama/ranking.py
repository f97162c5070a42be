"""Ranks the most probable tokens of a row of logits with libllama's samplers.

One call into C replaces a dozen calls of numpy, whose overhead exceeds their work, especially after
a pass, which has evicted their code from the caches.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as capi
from numpy.typing import NDArray

from localmtp.engine.llama.context import Floats
from localmtp.engine.llama.library import Owned

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""`llama_token_data`."""

_FEW = 256
"""Initial capacity, in candidates."""


class Ranking(Owned):
    """Truncates logits: top-k, temperature, top-p and min-p, in this order.

    Args:
        top_k: at least 1.
        temperature: above 0.
        top_p: 1 for no limit.
        min_p: 0 for no limit.

    Has scratch memory, so only one thread may use it at a time.
    """

    def __init__(self, top_k: int, temperature: float, top_p: float, min_p: float) -> None:
        self._chain = capi.llama_sampler_chain_init(capi.llama_sampler_chain_default_params())
        self._finalizer = weakref.finalize(self, capi.llama_sampler_free, self._chain)
        for sampler in (
            capi.llama_sampler_init_top_k(top_k),
            capi.llama_sampler_init_temp(temperature),
            capi.llama_sampler_init_top_p(top_p, 1),
            capi.llama_sampler_init_min_p(min_p, 1),
        ):
            capi.llama_sampler_chain_add(self._chain, sampler)
        self._make_room(_FEW)

    def rank(
        self, logits: Floats, ids: NDArray[np.integer[Any]] | None = None
    ) -> tuple[list[int], list[float]]:
        """Truncate and sort logits.

        Args:
            logits: [n], at least one finite; not modified.
            ids: [n], token ids of the logits; None for 0..n-1.

        Returns:
            Remaining token ids, most probable first, and their logits divided by the temperature.
        """
        n = logits.size
        if n > self._numbers.size:
            self._make_room(n)
        self._ids[:n] = self._numbers[:n] if ids is None else ids
        self._logits[:n] = logits
        array = self._array
        array.size, array.sorted = n, False
        capi.llama_sampler_apply(self._chain, self._pointer)
        kept: int = array.size
        return self._ids[:kept].tolist(), self._logits[:kept].tolist()

    def _make_room(self, n: int) -> None:
        rows = np.zeros(n, CANDIDATE)
        self._ids, self._logits = rows["id"], rows["logit"]
        self._numbers = np.arange(n, dtype=np.int32)
        data = rows.ctypes.data_as(capi.llama_token_data_p)
        self._array = capi.llama_token_data_array(data, n, -1, False)
        self._pointer = ctypes.pointer(self._array)
