"""Weights."""

from __future__ import annotations

import ctypes
import re
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as capi

from localmtp.engine.llama.library import Functions, Owned, log_lines, reason
from localmtp.engine.llama.offload import Offload
from localmtp.engine.llama.vocab import Vocab
from localmtp.engine.llama.vocabulary_file import VocabularyFile
from localmtp.errors import LocalmtpError
from localmtp.portability import DeferredInterrupt

_FIRST_PART = re.compile(r"(.+)-00001-of-(\d{5})\.gguf")
"""Name of the first part of a split model."""

_MULTIAXIAL = (8, 40)
"""`GGML_ROPE_TYPE_MROPE` and `GGML_ROPE_TYPE_IMROPE`."""


class _VocabularyModel(Owned):
    """A vocabulary without weights."""

    def __init__(self, path: Path) -> None:
        params = capi.llama_model_default_params()
        params.vocab_only = True
        no_devices = Offload(0)
        no_devices.apply(params)
        with log_lines() as lines:
            self.handle = capi.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise LocalmtpError(f"cannot load {path}: {reason(lines)}")
        self._finalizer = weakref.finalize(self, capi.llama_model_free, self.handle)


def _without_vocabulary(vocabulary: VocabularyFile) -> Any:
    """Overrides of metadata: no tokenizer, and dummy tokens in its place."""
    overrides = (capi.llama_model_kv_override * 3)()
    overrides[0].key = b"tokenizer.ggml.model"
    overrides[0].tag = capi.LLAMA_KV_OVERRIDE_TYPE_STR
    overrides[0].value.val_str = b"none"
    overrides[1].key = f"{vocabulary.architecture}.vocab_size".encode()
    overrides[1].tag = capi.LLAMA_KV_OVERRIDE_TYPE_INT
    overrides[1].value.val_i64 = vocabulary.size
    return overrides  # an empty key ends them


class Model(Owned):
    """A GGUF file's weights, vocabulary and metadata.

    Args:
        path: the GGUF file, or the first part of a split model.
        offload: layers to offload, and devices; None for all of them.
        repack: copy weights that the CPU uses to a faster layout, if there is one.
        progress: called with the loaded share, 0 to 1; False, or an exception, which propagates,
            cancels.
        vocabulary: loaded instead of that of the file.
        heads: load MTP heads too. A context of a head that is not loaded aborts the process.

    Raises:
        LocalmtpError: libllama cannot load it; the message has libllama's reason.
    """

    def __init__(
        self,
        path: Path,
        *,
        offload: Offload | None = None,
        repack: bool = True,
        progress: Callable[[float], bool] | None = None,
        vocabulary: VocabularyFile | None = None,
        heads: bool = False,
    ) -> None:
        params = capi.llama_model_default_params()
        self.offload = offload or Offload()
        params.use_extra_bufts = repack
        self.offload.apply(params)
        params.load_mtp = heads
        if vocabulary:
            overrides = _without_vocabulary(vocabulary)
            params.kv_overrides = overrides
        with DeferredInterrupt() as interrupt, log_lines() as lines:
            observer = _LoadObserver(progress, interrupt)
            # A local variable keeps the callback alive.
            callback = capi.llama_progress_callback(observer)
            params.progress_callback = callback
            self.handle = capi.llama_model_load_from_file(str(path).encode(), params)
        if observer.error is not None:
            raise observer.error
        if not self.handle:
            raise LocalmtpError(f"cannot load {path}: {reason(lines)}")
        self._finalizer = weakref.finalize(self, capi.llama_model_free, self.handle)
        self.path = path
        self.metadata = dict(self._read_metadata())
        self.architecture = self.metadata.get("general.architecture", "")
        self._vocabulary = None if vocabulary is None else _VocabularyModel(vocabulary.path)
        repeated = {} if vocabulary is None else vocabulary.repeated
        self.vocab = Vocab((self._vocabulary or self).handle, repeated)
        self.n_embd: int = capi.llama_model_n_embd(self.handle)
        self.n_embd_out: int = capi.llama_model_n_embd_out(self.handle)
        self.n_ctx_train: int = capi.llama_model_n_ctx_train(self.handle)
        self.n_layers: int = capi.llama_model_n_layer(self.handle)
        shared = self.metadata.get(f"{self.architecture}.attention.shared_kv_layers", "0")
        self.n_own_kv_layers = self.n_layers - (int(shared) if shared.isdecimal() else 0)
        """Layers that do not reuse another layer's KV cache."""
        self.fully_offloaded = self.offload.is_complete(self.n_layers)
        """Whether the CPU computes no part of a pass but the lookup of embeddings."""
        self.n_swa: int = capi.llama_model_n_swa(self.handle)
        self.size: int = capi.llama_model_size(self.handle)
        self.n_heads: int = capi.llama_model_n_layer_nextn(self.handle)
        """Number of MTP heads, loaded or not."""
        self.multiaxial: bool = capi.llama_model_rope_type(self.handle) in _MULTIAXIAL
        """Whether media rows have positions on several axes (M-RoPE)."""
        self.recurrent: bool = capi.llama_model_is_recurrent(
            self.handle
        ) or capi.llama_model_is_hybrid(self.handle)
        """Whether some layers have a state instead of a KV cache."""

    def _read_metadata(self) -> Iterator[tuple[str, str]]:
        buffer = ctypes.create_string_buffer(1 << 18)
        for i in range(capi.llama_model_meta_count(self.handle)):
            capi.llama_model_meta_key_by_index(self.handle, i, buffer, len(buffer))
            key = buffer.value.decode("utf-8", "replace")
            capi.llama_model_meta_val_str_by_index(self.handle, i, buffer, len(buffer))
            yield key, buffer.value.decode("utf-8", "replace")


class _GGUFParams(ctypes.Structure):
    """`gguf_init_params`."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def holds_tensor(path: Path, name: str) -> bool:
    """Reports whether a GGUF file, or a part of a split model, has a tensor of this name.

    Args:
        path: the file, or the first part.
        name: of the tensor.
    """
    return any(_file_holds_tensor(part, name) for part in _parts(path))


def _parts(path: Path) -> list[Path]:
    """Returns all parts of a model, given its first one."""
    match = _FIRST_PART.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match[2])
    names = (f"{match[1]}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1))
    return [path.with_name(name) for name in names]


def _file_holds_tensor(path: Path, name: str) -> bool:
    functions = Functions()
    functions.gguf_init_from_file.argtypes = [ctypes.c_char_p, _GGUFParams]
    functions.gguf_init_from_file.restype = ctypes.c_void_p
    functions.gguf_find_tensor.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    functions.gguf_find_tensor.restype = ctypes.c_int64
    functions.gguf_free.argtypes = [ctypes.c_void_p]
    header = functions.gguf_init_from_file(str(path).encode(), _GGUFParams(True, None))
    if not header:
        return False
    try:
        return bool(functions.gguf_find_tensor(header, name.encode()) >= 0)
    finally:
        functions.gguf_free(header)


class _LoadObserver:
    """Progress callback of libllama that cancels loading on Ctrl-C and on exceptions."""

    def __init__(
        self, progress: Callable[[float], bool] | None, interrupt: DeferredInterrupt
    ) -> None:
        self.error: BaseException | None = None
        self._progress = progress
        self._interrupt = interrupt

    def __call__(self, part: float, _user_data: object) -> bool:
        if self._interrupt.requested:
            return False
        try:
            return self._progress is None or self._progress(part)
        except BaseException as error:  # noqa: BLE001 - it cannot propagate through C
            self.error = error
            return False
