"""Buffers that libllama allocates for a model on devices and in main memory.

A program of its own, because libllama has one log per process:
`python -m tests.models.device_buffers TARGET CONTEXT` reads JSON lines of `gpu_layers`, `cpu_moe`,
`kv_offload` and `overrides`, and prints the bytes by buffer for each.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

from llama_cpp import llama_cpp as capi

from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.llama import Context, Model, Offload
from localmtp.limits import BATCH_ROWS

lines: list[str] = []


@capi.llama_log_callback  # type: ignore[untyped-decorator]
def keep(_level: int, text: bytes, _data: object) -> None:
    lines.append(text.decode("utf-8", "replace"))


def main(target: str, context: str) -> None:
    capi.llama_log_set(keep, ctypes.c_void_p(0))
    for line in sys.stdin:
        tried = json.loads(line)
        options = DeviceOptions(
            cpu_moe=tried["cpu_moe"],
            kv_offload=tried["kv_offload"],
            overrides=tuple(map(tuple, tried["overrides"])),
        )
        lines.clear()
        offload = Offload(tried["gpu_layers"], options)
        with (
            Model(Path(target), offload=offload) as model,
            Context(model, n_ctx=int(context), n_batch=BATCH_ROWS, n_outputs=17, threads=1),
        ):
            print(json.dumps(by_buffer("".join(lines))), flush=True)


def by_buffer(log: str) -> dict[str, float]:
    """Returns the bytes of each device, without those of mapped files."""
    found: dict[str, float] = defaultdict(float)
    pattern = r"(\S+) +(?:model|KV|compute) buffer size = +([\d.]+) MiB"
    for name, size in re.findall(pattern, log):
        found[name] += float(size) * (1 << 20)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
