"""Devices: `llama_model_params` for splits and tensors placed by name, and their bandwidth."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from llama_cpp import llama_cpp as capi

from localmtp.engine.device_options import DeviceOptions, SplitMode, Switch, device_of, repacks
from localmtp.engine.llama.ggml import (
    CPU,
    F32,
    Device,
    buffer_type,
    device_handles,
    devices,
    every_device,
)
from localmtp.engine.llama.library import Functions
from localmtp.errors import LocalmtpError

ALL_LAYERS = -1
"""Value of `gpu_layers`: offload as many layers as possible."""

_EXPERTS = r"blk\.(%s)\.ffn_(up|down|gate|gate_up)_(ch|)exps"
"""The pattern of llama.cpp's `--n-cpu-moe` (`LLM_FFN_EXPS_REGEX`), for all layers in one."""

_SPLIT_MODES = {
    SplitMode.LAYER: capi.LLAMA_SPLIT_MODE_LAYER,
    SplitMode.NONE: capi.LLAMA_SPLIT_MODE_NONE,
}
_FLASH_ATTENTION = {
    Switch.AUTO: capi.LLAMA_FLASH_ATTN_TYPE_AUTO,
    Switch.ON: capi.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    Switch.OFF: capi.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
_LEAST_CONTEXT = 512
"""Smallest context that a hint names."""

_LOAD_MODES = {(True, False): -1, (True, True): 3, (False, False): 0, (False, True): 2}
"""`llama_load_mode` by (mmap, mlock): auto, mmap and mlock, none, mlock."""


class _Override(ctypes.Structure):
    """`llama_model_tensor_buft_override`."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


_lib = Functions()


class _InitParams(ctypes.Structure):
    """`ggml_init_params`."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


_lib.ggml_backend_dev_by_name.argtypes = [ctypes.c_char_p]
_lib.ggml_init.argtypes = [_InitParams]
_lib.ggml_new_tensor_1d.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64]
_lib.ggml_scale.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float]
_lib.ggml_new_graph.argtypes = [ctypes.c_void_p]
_lib.ggml_build_forward_expand.restype = None
for _function in (
    *(_lib.ggml_backend_dev_init, _lib.ggml_backend_alloc_ctx_tensors),
    *(_lib.ggml_backend_graph_compute, _lib.ggml_build_forward_expand),
):
    _function.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
for _function in (
    *(_lib.ggml_backend_dev_by_name, _lib.ggml_backend_dev_init, _lib.ggml_init),
    *(_lib.ggml_new_tensor_1d, _lib.ggml_scale, _lib.ggml_new_graph),
    _lib.ggml_backend_alloc_ctx_tensors,
):
    _function.restype = ctypes.c_void_p
for _function in (_lib.ggml_free, _lib.ggml_backend_free, _lib.ggml_backend_buffer_free):
    _function.argtypes = [ctypes.c_void_p]
    _function.restype = None

_BANDWIDTH_BYTES = 1 << 28
"""Size of the tensor: far larger than any cache."""

_GRAPH_BYTES = 1 << 20
"""Memory for the description of a graph."""

_BANDWIDTH_PASSES = 5
"""The first compiles kernels on some devices."""


class Offload:
    """Placement of one model; keeps the arrays alive that libllama reads while loading.

    Args:
        gpu_layers: layers to offload; with 0 no GPU takes part, not even in prompts.
        options: devices and tensors.

    Raises:
        LocalmtpError: there is no device of a name or number, there are more shares than devices,
            or a tensor is placed on a device that is not used.
    """

    def __init__(self, gpu_layers: int = ALL_LAYERS, options: DeviceOptions | None = None) -> None:
        self.gpu_layers = gpu_layers
        self.options = options = options or DeviceOptions()
        _check_names(options)
        self.devices = used_devices(gpu_layers, options)
        """Devices that take part."""
        self._devices = _device_list(() if gpu_layers == 0 else options.names)
        _check_places(options, gpu_layers)
        self._overrides = _override_list(options) if gpu_layers else None
        self._split = _split_list(options.tensor_split)

    def is_complete(self, layers: int) -> bool:
        """Reports whether the CPU computes no layer, expert or attention of a model.

        Args:
            layers: of the model, without its output.
        """
        options = self.options
        return (
            bool(self.devices)
            and not 0 <= self.gpu_layers <= layers
            and not options.cpu_moe
            and options.kv_offload
            and all(place != CPU for _, place in options.overrides)
        )

    def device_of(self, layer: int, layers: int) -> Device:
        """Returns the device of an offloaded layer.

        Args:
            layer: its index in the model.
            layers: of the model, without its output.
        """
        offloaded = layers + 1 if self.gpu_layers < 0 else min(self.gpu_layers, layers + 1)
        at = layer - (layers + 1 - offloaded)
        split = (*self.options.tensor_split, *[0.0] * len(self.devices))[: len(self.devices)]
        by_memory = [float(device.free) for device in self.devices]
        return self.devices[device_of(at, offloaded, split if sum(split) else by_memory)]

    def needs_less(self, layers: int = 0, context: int = 0) -> str:
        """Returns a hint: what needs less memory than this model took when it ran out.

        Args:
            layers: of the model; 0 if unknown.
            context: positions of the context; 0 if it was not reached.
        """
        ways = []
        if self.devices:
            on_gpu = layers + 1 if self.gpu_layers < 0 else min(self.gpu_layers, layers + 1)
            fewer = f"for example {on_gpu // 2}" if layers and on_gpu > 1 else "0: none"
            ways.append(f"fewer layers on the GPU (`--gpu-layers N`, {fewer})")
        if context > _LEAST_CONTEXT:
            ways.append(f"a smaller context (`--ctx {max(_LEAST_CONTEXT, context // 2)}`)")
        return f"less memory: {' or '.join(ways or ['a smaller model'])}"

    def apply(self, params: Any) -> None:
        """Sets the fields of `llama_model_params`, which must not outlive this object."""
        options = self.options
        params.n_gpu_layers = self.gpu_layers
        params.no_host = repacks(options)
        params.use_extra_bufts &= options.repack is not Switch.OFF
        params.split_mode = _SPLIT_MODES[options.split_mode]
        params.main_gpu = options.main_gpu
        params.load_mode = _LOAD_MODES[options.mmap, options.mlock]
        if self._devices is not None:
            params.devices = ctypes.addressof(self._devices)
        if self._overrides is not None:
            params.tensor_buft_overrides = ctypes.addressof(self._overrides)
        if self._split is not None:
            params.tensor_split = self._split


def used_devices(gpu_layers: int | None, options: DeviceOptions) -> tuple[Device, ...]:
    """Returns the devices that a model is offloaded to.

    Args:
        gpu_layers: offloaded layers; None, or a negative number, for all.
        options: devices and division.
    """
    if gpu_layers == 0:
        return ()
    if options.names is None:
        found = devices()
    else:
        named = {device.name: device for device in every_device()}
        found = tuple(named[name] for name in options.names if name in named)
    if options.split_mode is SplitMode.NONE:
        return found[options.main_gpu : options.main_gpu + 1]
    return found


def apply_attention(params: Any, options: DeviceOptions) -> None:
    """Sets the fields of `llama_context_params`."""
    params.flash_attn_type = _FLASH_ATTENTION[options.flash_attn]
    params.offload_kqv = options.kv_offload


def _check_names(options: DeviceOptions) -> None:
    """Checks names and numbers of devices.

    Raises:
        LocalmtpError: see `Offload`.
    """
    known = device_handles()
    there = ", ".join(known) or "none"
    for name in options.names or ():
        if name not in known:
            raise LocalmtpError(f"there is no device `{name}`", hint=f"devices: {there}")
    if options.split_mode is SplitMode.LAYER and not options.tensor_split:
        return
    count = len(devices() if options.names is None else options.names)
    if len(options.tensor_split) > count:
        shares = ",".join(f"{share:g}" for share in options.tensor_split)
        raise LocalmtpError(
            f"--tensor-split {shares} has more shares than there are devices",
            hint=f"devices: {there}",
        )
    if options.split_mode is SplitMode.NONE and options.main_gpu >= max(1, count):
        raise LocalmtpError(
            f"there is no device number {options.main_gpu}", hint=f"devices: {there}"
        )


def _device_list(names: Sequence[str] | None) -> Any:
    """Returns a null-terminated array of handles; None for libllama's own choice."""
    if names is None:
        return None
    known = device_handles()
    handles = [known[name] for name in names]
    return (ctypes.c_void_p * (len(handles) + 1))(*handles)


def _check_places(options: DeviceOptions, gpu_layers: int) -> None:
    """Checks that tensors are placed on devices in use: libllama aborts on others.

    Raises:
        LocalmtpError: one is not.
    """
    used = device_handles() if options.names is None else options.names
    for pattern, place in options.overrides:
        if place != CPU and (gpu_layers == 0 or place not in used):
            there = ", ".join([CPU, *(used if gpu_layers else ())])
            raise LocalmtpError(
                f"`{pattern}={place}` places tensors on a device that is not in use",
                hint=f"in use: {there}",
            )


def _override_list(options: DeviceOptions) -> Any:
    """Returns an array that ends with an empty pattern; None without overrides."""
    pairs = [
        _Override(pattern.encode(), buffer_type(place)) for pattern, place in options.overrides
    ]
    if options.cpu_moe:
        layers = "|".join(map(str, range(options.cpu_moe)))
        pairs.append(_Override((_EXPERTS % layers).encode(), buffer_type(CPU)))
    if not pairs:
        return None
    return (_Override * (len(pairs) + 1))(*pairs)


def _split_list(shares: Sequence[float]) -> Any:
    if not shares:
        return None
    return (ctypes.c_float * capi.llama_max_devices())(*shares)


def device_bandwidth(name: str) -> float:
    """Measures the memory bandwidth of a device: the best of several passes over a large tensor.

    Args:
        name: of the device, or `CPU`.

    Returns:
        Bytes read and written per second; 0 if the device has too little free memory.
    """
    handle = _lib.ggml_backend_dev_by_name(name.encode())
    backend = _lib.ggml_backend_dev_init(handle, None)
    nbytes = _BANDWIDTH_BYTES
    context = _lib.ggml_init(_InitParams(_GRAPH_BYTES, None, True))
    try:
        tensor = _lib.ggml_new_tensor_1d(context, F32, nbytes // 4)
        result = _lib.ggml_scale(context, tensor, 0.5)
        graph = _lib.ggml_new_graph(context)
        _lib.ggml_build_forward_expand(graph, result)
        buffer = _lib.ggml_backend_alloc_ctx_tensors(context, backend)
        if not buffer:
            return 0.0
        best = 0.0
        for _ in range(_BANDWIDTH_PASSES):
            began = perf_counter()
            _lib.ggml_backend_graph_compute(backend, graph)
            best = max(best, 2 * nbytes / (perf_counter() - began))
        _lib.ggml_backend_buffer_free(buffer)
        return best
    finally:
        _lib.ggml_free(context)
        _lib.ggml_backend_free(backend)
