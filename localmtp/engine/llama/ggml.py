"""ggml's functions: devices, encoding of quantized rows, and the file quantizer.

They are looked up in the libllama that `localmtp.engine.llama` has loaded. Calls release the GIL,
so rows can be quantized on several threads.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localmtp.engine.llama.library import Functions, log_lines
from localmtp.errors import LocalmtpError

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# GGML_BACKEND_DEVICE_TYPE_…; other types accelerate the CPU and have no memory of their own.
_GPU, _INTEGRATED_GPU = 1, 2

_METAL = "MTL"  # reports its devices as discrete
_RPC = b"RPC"

CPU = "CPU"
"""Name of main memory where tensors are placed by name."""

F32, F16, BF16 = 0, 1, 30
"""`ggml_type` of unquantized checkpoints."""


class _ImatrixEntry(ctypes.Structure):
    """`llama_model_imatrix_data`."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _TypeOverride(ctypes.Structure):
    """`llama_model_tensor_override`."""

    _fields_ = (("pattern", ctypes.c_char_p), ("type", ctypes.c_int))


class _DeviceProperties(ctypes.Structure):
    """`ggml_backend_dev_props` of ggml-backend.h; the capabilities are not read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 64),
    )


class _QuantizeParams(ctypes.Structure):
    """`llama_model_quantize_params` of llama.h."""

    _fields_ = (
        ("nthread", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("quantize_output_tensor", ctypes.c_bool),
        ("only_copy", ctypes.c_bool),
        ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool),
        ("dry_run", ctypes.c_bool),
        ("imatrix", ctypes.POINTER(_ImatrixEntry)),
        ("kv_overrides", ctypes.c_void_p),
        ("tt_overrides", ctypes.POINTER(_TypeOverride)),
        ("prune_layers", ctypes.c_void_p),
        ("max_buf_size", ctypes.c_size_t),
    )


_lib = Functions()
_lib.ggml_quantize_chunk.restype = ctypes.c_size_t
_lib.ggml_quantize_chunk.argtypes = (
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
    *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
)
_lib.ggml_row_size.restype = ctypes.c_size_t
_lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
for _widen in (_lib.ggml_fp16_to_fp32_row, _lib.ggml_bf16_to_fp32_row):
    _widen.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    _widen.restype = None
_lib.llama_model_quantize_default_params.restype = _QuantizeParams


_lib.ggml_backend_dev_count.restype = ctypes.c_size_t
_lib.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
_lib.ggml_backend_dev_get.restype = ctypes.c_void_p
_lib.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
_lib.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p] * 3
_lib.ggml_backend_reg_count.restype = ctypes.c_size_t
_lib.ggml_backend_reg_get.argtypes = [ctypes.c_size_t]
_lib.ggml_backend_reg_get.restype = ctypes.c_void_p
_lib.ggml_backend_reg_by_name.argtypes = [ctypes.c_char_p]
_lib.ggml_backend_reg_by_name.restype = ctypes.c_void_p
_lib.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_lib.ggml_backend_reg_get_proc_address.restype = ctypes.c_void_p
_lib.ggml_backend_register.argtypes = [ctypes.c_void_p]
_lib.ggml_backend_register.restype = None
_lib.ggml_backend_dev_get_props.argtypes = [ctypes.c_void_p, ctypes.POINTER(_DeviceProperties)]
_lib.ggml_backend_dev_get_props.restype = None
_lib.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
_lib.ggml_backend_dev_buffer_type.argtypes = [ctypes.c_void_p]
_lib.ggml_backend_dev_buffer_type.restype = ctypes.c_void_p
_lib.ggml_backend_dev_backend_reg.argtypes = [ctypes.c_void_p]
_lib.ggml_backend_dev_backend_reg.restype = ctypes.c_void_p
for _name in (
    _lib.ggml_backend_reg_name,
    _lib.ggml_backend_dev_name,
    _lib.ggml_backend_dev_description,
):
    _name.argtypes = [ctypes.c_void_p]
    _name.restype = ctypes.c_char_p


_ADD_SERVER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
_ABORTED = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_kept_alive: list[object] = []  # callbacks that libllama holds


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU that the loaded libllama can use, or a device of an RPC server; memory in bytes."""

    name: str
    description: str
    free: int
    total: int
    unified: bool = False
    """Whether it shares main memory."""
    remote: bool = False
    """Whether it belongs to an RPC server. A CPU there reports all of its memory as free."""
    bus: str = ""
    """PCI address such as `0000:01:00.0`; empty if unknown."""

    @property
    def summary(self) -> str:
        """Description and memory."""
        return f"{self.description}, {self.total / 1e9:.1f} GB"


def backends() -> tuple[str, ...]:
    """Backends that this libllama was built with: `CPU`, `CUDA`, `Metal`, `Vulkan` …."""
    registered = map(_lib.ggml_backend_reg_get, range(_lib.ggml_backend_reg_count()))
    return tuple(_lib.ggml_backend_reg_name(each).decode("utf-8", "replace") for each in registered)


def devices() -> tuple[Device, ...]:
    """Devices that libllama offloads to: RPC servers first, then GPUs.

    Integrated GPUs are used only if there is no other GPU.
    """
    handles = device_handles().values()
    found = [(_lib.ggml_backend_dev_type(handle), _device(handle)) for handle in handles]
    local = [(kind, device) for kind, device in found if not device.remote]
    wanted = _GPU if any(kind == _GPU for kind, _ in local) else _INTEGRATED_GPU
    return (
        *(device for kind, device in found if device.remote and kind == _GPU),
        *(device for kind, device in local if kind == wanted),
    )


def every_device() -> tuple[Device, ...]:
    """Devices that libllama can offload to, including integrated GPUs that it leaves out."""
    return tuple(map(_device, device_handles().values()))


def _device(handle: int) -> Device:
    found = _DeviceProperties()
    _lib.ggml_backend_dev_get_props(handle, ctypes.byref(found))
    name = found.name.decode("utf-8", "replace")
    description = found.description.decode("utf-8", "replace")
    unified = found.type == _INTEGRATED_GPU or name.startswith(_METAL)
    remote = _lib.ggml_backend_reg_name(_lib.ggml_backend_dev_backend_reg(handle)) == _RPC
    if remote:
        description = f"RPC server {description}"
    return Device(
        name,
        description,
        found.memory_free,
        found.memory_total,
        unified and not remote,
        remote,
        (found.device_id or b"").decode("ascii", "replace").lower(),
    )


def device_handles() -> dict[str, int]:
    """Returns the `ggml_backend_dev_t` of every GPU and RPC device by name, in libllama's order."""
    handles = map(_lib.ggml_backend_dev_get, range(_lib.ggml_backend_dev_count()))
    return {
        _lib.ggml_backend_dev_name(handle).decode("utf-8", "replace"): handle
        for handle in handles
        if _lib.ggml_backend_dev_type(handle) in (_GPU, _INTEGRATED_GPU)
    }


def buffer_type(place: str) -> int:
    """Returns the `ggml_backend_buffer_type_t` of a device, or of main memory for `CPU`.

    Raises:
        LocalmtpError: there is no device of this name.
    """
    if place == CPU:
        return int(_lib.ggml_backend_cpu_buffer_type())
    handles = device_handles()
    if place not in handles:
        raise LocalmtpError(
            f"there is no device `{place}`", hint=f"devices: {', '.join([CPU, *handles])}"
        )
    return int(_lib.ggml_backend_dev_buffer_type(handles[place]))


def has_rpc() -> bool:
    """Whether this libllama was built with RPC."""
    return bool(_lib.ggml_backend_reg_by_name(_RPC))


def add_rpc_server(endpoint: str) -> bool:
    """Add the devices of an RPC server until the process ends.

    libllama aborts the process if the server does not respond: check that first.

    Returns:
        Whether the server has devices.
    """
    backend = _lib.ggml_backend_reg_by_name(_RPC)
    address = _lib.ggml_backend_reg_get_proc_address(backend, b"ggml_backend_rpc_add_server")
    registered = _ADD_SERVER(address)(endpoint.encode())
    if registered:
        _lib.ggml_backend_register(registered)
    return bool(registered)


def on_abort(handler: Callable[[str], None]) -> None:
    """Sets the function that is called with ggml's reason before it aborts the process.

    It is called on any thread, and the process is aborted when it returns. The default writes the
    reason to standard error, in one line, and exits with 1.
    """
    called = _ABORTED(lambda reason: handler(reason.decode("utf-8", "replace")))
    _kept_alive.append(called)
    _lib.ggml_set_abort_callback(called)


def _end_in_one_line(reason: str) -> None:
    """Ends the process before ggml dumps core; not through sys.stderr, which a chat captures."""
    *_, line = ["", *reason.splitlines()]
    os.write(2, f"error: libllama aborted: {line.strip()}\n".encode("utf-8", "replace"))
    os._exit(1)


def row_size(kind: int, width: int) -> int:
    """Size in bytes of a row of `width` values of a `ggml_type`."""
    return int(_lib.ggml_row_size(kind, width))


def to_floats(raw: Bytes, kind: int) -> Floats:
    """Convert values of a checkpoint to float32, without loss.

    Args:
        raw: contiguous bytes, little-endian.
        kind: F32, F16 or BF16.
    """
    if kind == F32:
        return raw.view(np.float32)
    floats = np.empty(raw.size // 2, np.float32)
    widen = _lib.ggml_fp16_to_fp32_row if kind == F16 else _lib.ggml_bf16_to_fp32_row
    widen(raw.ctypes.data, floats.ctypes.data, floats.size)
    return floats


def quantize_rows(rows: Floats, kind: int, importance: Floats | None = None) -> Bytes:
    """Encode rows in a `ggml_type`, byte for byte as llama.cpp's quantizer does.

    Args:
        rows: [n, width], contiguous; width a multiple of the type's block.
        kind: the `ggml_type`.
        importance: [width], weight of each column's error; the smallest types require it.

    Returns:
        [n * row_size(kind, width)] bytes.
    """
    count, width = rows.shape
    encoded = np.empty(count * row_size(kind, width), np.uint8)
    weights = importance.ctypes.data if importance is not None else None
    _lib.ggml_quantize_chunk(kind, rows.ctypes.data, encoded.ctypes.data, 0, count, width, weights)
    return encoded


def quantize_file(
    source: Path,
    destination: Path,
    file_type: int,
    *,
    importance: Mapping[str, Floats],
    overrides: Sequence[tuple[str, int]],
) -> None:
    """Run libllama's quantizer over a GGUF file.

    Args:
        source: an F32, F16 or BF16 file.
        destination: file to write.
        file_type: the `llama_ftype`.
        importance: importance weights by tensor name; may be empty.
        overrides: (regular expression on tensor names, `ggml_type`); the first match applies.

    Raises:
        LocalmtpError: the quantizer failed; the message has libllama's reason.
    """
    params = _lib.llama_model_quantize_default_params()
    params.ftype = file_type
    entries = [_ImatrixEntry(k.encode(), v.ctypes.data, v.size) for k, v in importance.items()]
    if entries:
        params.imatrix = (_ImatrixEntry * (len(entries) + 1))(*entries)
    types = [_TypeOverride(pattern.encode(), kind) for pattern, kind in overrides]
    if types:
        params.tt_overrides = (_TypeOverride * (len(types) + 1))(*types)
    with log_lines() as lines:
        status = _lib.llama_model_quantize(
            str(source).encode(), str(destination).encode(), ctypes.byref(params)
        )
    if status:
        reason = "".join(line for line in lines if "failed to quantize" in line)
        reason = reason.rpartition("failed to quantize: ")[2].strip()
        raise LocalmtpError(f"libllama cannot quantize: {reason or 'it gave no reason'}")


on_abort(_end_in_one_line)
