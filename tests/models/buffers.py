"""Sizes of the buffers that libllama would allocate for a model.

A program of its own, because libllama has one log per process:
`python -m tests.models.buffers TARGET CONTEXT:KV_TYPE:BATCH[:STATES:SEQUENCES[:head]]…` prints a
JSON row for each, of bytes of weights and mebibytes of KV cache (with recurrent states, STATES of
them for rolling back) and working memory; `head` for those of the MTP head's context.
"""

import ctypes
import json
import re
import sys

from llama_cpp import llama_cpp as capi

from localmtp.engine.kv_type import KVType
from localmtp.engine.llama import Offload

lines: list[str] = []


@capi.llama_log_callback  # type: ignore[untyped-decorator]
def keep(_level: int, text: bytes, _data: object) -> None:
    lines.append(text.decode())


def main(target: str, *loads: str) -> None:
    capi.llama_log_set(keep, ctypes.c_void_p(0))
    params = capi.llama_model_default_params()
    nowhere = Offload(0)  # without devices, whose buffers are separate
    nowhere.apply(params)
    params.no_alloc = True
    params.load_mode = 0  # mapping is refused without allocation
    params.load_mtp = True
    model = capi.llama_model_load_from_file(target.encode(), params)
    weights = capi.llama_model_size(model)
    print(json.dumps([[weights, *buffers(model, *load.split(":"))] for load in loads]))


def buffers(
    model: object,
    context: str,
    kv_type: str,
    batch: str,
    states: str = "0",
    sequences: str = "1",
    head: str = "",
) -> tuple[float, float]:
    params = capi.llama_context_default_params()
    params.n_ctx = int(context)
    params.n_batch = params.n_ubatch = min(int(batch), int(context))
    params.type_k = params.type_v = KVType(kv_type).ggml_type
    params.n_outputs_max = 17
    params.swa_full = False
    params.n_rs_seq, params.n_seq_max, params.kv_unified = int(states), int(sequences), True
    if head:
        params.ctx_type = capi.LLAMA_CONTEXT_TYPE_MTP
    lines.clear()
    capi.llama_free(capi.llama_init_from_model(model, params))
    log = "".join(lines)
    return _sum(r"(?:llama_kv_cache|llama_memory_recurrent): size = +([\d.]+) MiB", log), _sum(
        r"compute buffer size = +([\d.]+) MiB", log
    )


def _sum(pattern: str, log: str) -> float:
    return sum(map(float, re.findall(pattern, log)))


if __name__ == "__main__":
    main(*sys.argv[1:])
