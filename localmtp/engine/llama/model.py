"""Weights."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from llama_cpp import llama_cpp as capi

from localmtp.engine.llama.library import Owned, log_lines, reason
from localmtp.engine.llama.vocab import Vocab
from localmtp.errors import LocalmtpError

ALL_LAYERS = -1
"""Value of `gpu_layers`: offload as many layers as possible."""


class Model(Owned):
    """A GGUF file's weights, vocabulary and metadata.

    Args:
        path: the GGUF file, or the first part of a split model.
        gpu_layers: layers to offload; `ALL_LAYERS` for as many as possible.
        repack: copy weights that the CPU uses to a faster layout, if there is one.
        progress: called with the loaded share, 0 to 1; returning False cancels. Must not raise.

    Raises:
        LocalmtpError: libllama cannot load it; the message has libllama's reason.
    """

    def __init__(
        self,
        path: Path,
        *,
        gpu_layers: int = ALL_LAYERS,
        repack: bool = True,
        progress: Callable[[float], bool] | None = None,
    ) -> None:
        params = capi.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.use_extra_bufts = repack
        if progress:
            callback = capi.llama_progress_callback(lambda part, _user_data: progress(part))
            params.progress_callback = callback
        with log_lines() as lines:
            self.handle = capi.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise LocalmtpError(f"cannot load {path}: {reason(lines)}")
        self._finalizer = weakref.finalize(self, capi.llama_model_free, self.handle)
        self.path = path
        self.metadata = dict(self._read_metadata())
        self.architecture = self.metadata.get("general.architecture", "")
        self.vocab = Vocab(self)
        self.n_embd: int = capi.llama_model_n_embd(self.handle)
        self.n_embd_out: int = capi.llama_model_n_embd_out(self.handle)
        self.n_ctx_train: int = capi.llama_model_n_ctx_train(self.handle)
        self.n_swa: int = capi.llama_model_n_swa(self.handle)
        self.size: int = capi.llama_model_size(self.handle)

    def _read_metadata(self) -> Iterator[tuple[str, str]]:
        buffer = ctypes.create_string_buffer(1 << 18)
        for i in range(capi.llama_model_meta_count(self.handle)):
            capi.llama_model_meta_key_by_index(self.handle, i, buffer, len(buffer))
            key = buffer.value.decode("utf-8", "replace")
            capi.llama_model_meta_val_str_by_index(self.handle, i, buffer, len(buffer))
            yield key, buffer.value.decode("utf-8", "replace")
