"""Contexts: the KV cache, and the outputs of a decode."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as capi
from llama_cpp import llama_cpp_ext as capi_ext
from numpy.typing import NDArray

from localmtp.engine.device_options import Switch
from localmtp.engine.kv_type import KVType
from localmtp.engine.llama.batch import Batch, RowBatch
from localmtp.engine.llama.library import Owned, log_lines, reason
from localmtp.engine.llama.model import Model
from localmtp.engine.llama.offload import apply_attention
from localmtp.engine.recurrent import RecurrentStates, RollbackError
from localmtp.errors import LocalmtpError
from localmtp.portability import DeferredInterrupt

_AddressOf = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


def _returning_address(function: Any) -> Any:
    """Redeclare a function of libllama so that it returns its pointer as an integer.

    It is called several times per round, where llama-cpp-python's pointer objects cost more than
    the call.
    """
    return _AddressOf(ctypes.cast(function, ctypes.c_void_p).value or 0)


_get_logits = _returning_address(capi.llama_get_logits)
_get_hidden = _returning_address(capi_ext.llama_get_embeddings_nextn)

Floats = NDArray[np.float32]
StateBytes = NDArray[np.uint8]


class Context(Owned):
    """A context of a model: the KV cache, and the outputs of the last decode.

    Args:
        model: is kept alive by its contexts.
        n_ctx: positions, shared by all sequences.
        n_batch: rows of the largest decode.
        n_outputs: maximum rows of a decode with logits; each reserves n_vocab floats.
        threads: number of CPU threads.
        full_window: allocate sliding-window layers at full context size, so that the cache can be
            rolled back to any position.
        kv_type: type of the KV cache.
        sequences: number of sequences in the cache.
        target: makes this an MTP assistant's context, which reads the KV cache of `target`.
        head: number of an MTP head of the model, from 0; makes this the context of that head, with
            its own KV cache.
        hidden: compute hidden states, for a drafter that reads them.
        all_hidden: keep the hidden state of every row, not of those with logits only.
        snapshots: recurrent states to keep for rolling back, at most `n_batch` - 2; see
            `can_roll_back`.

    Raises:
        LocalmtpError: libllama cannot create it, usually for lack of memory.
    """

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int,
        n_batch: int,
        n_outputs: int,
        threads: int,
        full_window: bool = False,
        kv_type: KVType = KVType.F16,
        sequences: int = 1,
        target: Context | None = None,
        head: int | None = None,
        hidden: bool = True,
        all_hidden: bool = False,
        snapshots: int = 0,
    ) -> None:
        params = capi.llama_context_default_params()
        params.n_seq_max = sequences
        # One pool of cells, so that sequences with different numbers of rows share a pass.
        params.kv_unified = True
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = n_batch
        params.n_outputs_max = n_outputs
        # 0 for as many: the default of 1 makes larger passes with samplers on the device fail.
        params.n_outputs_max_per_seq = 0
        params.n_threads = params.n_threads_batch = threads
        params.swa_full = full_window
        params.type_k = params.type_v = kv_type.ggml_type
        params.no_perf = True
        apply_attention(params, model.offload.options)
        if model.offload.options.flash_attn is Switch.OFF and kv_type is not KVType.F16:
            raise LocalmtpError(
                f"a KV cache in {kv_type} requires flash attention",
                hint="leave out `--flash-attn off`, or add `--kv-type f16`",
            )
        # A micro-batch must have more rows than there are states, the last one included.
        most = max(0, min(snapshots, n_batch - 2))
        params.n_rs_seq = most if model.recurrent and head is None else 0
        if target is not None or head is not None:
            params.ctx_type = capi.LLAMA_CONTEXT_TYPE_MTP
            params.ctx_other = target and target.handle
        with DeferredInterrupt(), log_lines() as lines:
            self.handle: Any = capi.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LocalmtpError(
                f"cannot run {model.path} with a context of {n_ctx}: {reason(lines)}",
                hint=model.offload.needs_less(model.n_layers, n_ctx),
            )
        # References that keep both alive as long as this context.
        self.model, self.target = model, target
        self._finalizer = weakref.finalize(self, capi.llama_free, self.handle)
        if head:
            capi_ext.llama_set_nextn_layer_offset(self.handle, head)
        if hidden:
            # Masked: hidden states only for rows with logits, not for every prompt token.
            capi_ext.llama_set_embeddings_nextn(self.handle, True, not all_hidden)
        self.n_ctx: int = capi.llama_n_ctx(self.handle)
        self._memory = capi.llama_get_memory(self.handle)
        self.n_outputs = self._n_hidden = 0
        self._all_hidden = all_hidden
        self._logits = _RowView(n_outputs, model.vocab.size)
        self._hidden = _RowView(n_batch if all_hidden else n_outputs, model.n_embd_out)
        self.snapshots: int = capi.llama_n_rs_seq(self.handle)
        """Recurrent states retained for rolling back; 0 where libllama retains none."""
        recurrent = model.recurrent and head is None
        self._states = RecurrentStates(self.snapshots, sequences) if recurrent else None

    def decode_rows(self, batch: RowBatch, *, causal: bool) -> None:
        """Decode an encoded image or sound.

        Args:
            batch: at most `n_batch` rows: libllama ends the process on more.
            causal: False lets all rows of the batch attend to each other, where the model does
                that with images.

        Raises:
            LocalmtpError: see `decode`.
        """
        capi.llama_set_causal_attn(self.handle, causal)
        try:
            self.decode(batch)
        finally:
            capi.llama_set_causal_attn(self.handle, True)
            if self._states:
                # Rows may share a position, by which libllama counts states.
                for sequence, _ in batch.parts:
                    self._states.spent(sequence)

    def decode(self, batch: Batch | RowBatch) -> None:
        """Decode a batch and add its keys and values to the cache.

        Raises:
            LocalmtpError: the batch does not fit the context, or the backend failed.
        """
        status = capi.llama_decode(self.handle, batch.c)
        self.n_outputs = batch.n_outputs
        self._n_hidden = batch.n_rows if self._all_hidden else batch.n_outputs
        if self._states:
            self._states.decoded(batch.parts)
        if status == 1:
            raise LocalmtpError(
                f"the context of {self.n_ctx} tokens is full", hint="use a larger one: `--ctx N`"
            )
        if status:
            raise LocalmtpError(f"libllama cannot decode the batch (code {status}): {reason()}")

    def set_threads(self, threads: int) -> None:
        """Set the number of compute threads from the next decode on."""
        capi.llama_set_n_threads(self.handle, threads, threads)

    def logits(self) -> Floats:
        """Logits [rows with logits, n_vocab]: a view, valid until the next decode."""
        return self._logits.at(_get_logits(self.handle))[: self.n_outputs]

    def hidden(self) -> Floats:
        """Hidden states [rows, n_embd of the target], the input of a drafter.

        Of all rows, or of those with logits. Of a target after its final norm, of a drafter
        projected back to the target's width. A view, valid until the next decode.
        """
        return self._hidden.at(_get_hidden(self.handle))[: self._n_hidden]

    @property
    def recurrent(self) -> bool:
        """Whether some layers have a recurrent state instead of a KV cache."""
        return self._states is not None

    def can_roll_back(self, position: int, sequence: int = 0) -> bool:
        """Whether recurrent states allow `remove_from`; True without any.

        They can be rolled back once after a pass, by fewer rows than it had and by at most
        `snapshots`, and not after `restore_state`. Removing everything is always possible.
        """
        states = self._states
        if states is None or position <= 0:
            return True
        return self.end(sequence) - position <= states.distance(sequence)

    def remove_from(self, position: int, sequence: int = 0) -> None:
        """Removes the cells of a sequence from `position` on.

        Raises:
            RollbackError: `can_roll_back` is False.
            LocalmtpError: libllama refuses.
        """
        if self._states:
            if not self.can_roll_back(position, sequence):
                raise RollbackError(
                    f"sequence {sequence} ends at {self.end(sequence)} and cannot be rolled back "
                    f"to {position}: {self._states.distance(sequence)} states are valid"
                )
            if position < self.end(sequence):
                self._states.spent(sequence)
        if not capi.llama_memory_seq_rm(self._memory, sequence, position, -1):
            raise LocalmtpError(
                f"the KV cache of {self.model.path} cannot be rolled back to position {position}"
            )

    def earliest_position(self, sequence: int = 0) -> int:
        """First position that all layers hold, including sliding-window ones; -1 if empty."""
        return int(capi.llama_memory_seq_pos_min(self._memory, sequence))

    def end(self, sequence: int = 0) -> int:
        """Position after the last one in the cache; 0 if empty.

        Less than that of the next token if rows of an image with positions on several axes are the
        last.
        """
        return int(capi.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def share(self, source: int, sequence: int, position: int) -> None:
        """Share the cells of a sequence before a position with another one.

        A recurrent state is not shared: `restore_state` must follow, with that before `position`.

        Args:
            source: the sequence that holds the cells.
            sequence: an empty sequence.
            position: after the last of them.
        """
        capi.llama_memory_seq_cp(self._memory, source, sequence, 0, position)

    def copy_size(self, sequence: int = 0) -> int:
        """Bytes of a copy of a sequence."""
        return int(capi.llama_state_seq_get_size_ext(self.handle, sequence, 0))

    def copy_sequence(self, sequence: int = 0) -> StateBytes:
        """Copy all cells and the recurrent state of a sequence to host memory."""
        size = self.copy_size(sequence)
        data = np.empty(size, np.uint8)
        written = capi.llama_state_seq_get_data_ext(self.handle, _bytes_of(data), size, sequence, 0)
        return data[:written]

    def restore_sequence(self, data: StateBytes, sequence: int = 0) -> bool:
        """Replace the cells and recurrent states of a sequence by a copy.

        The copy must be of a context of the same model and kind of cache.

        Returns:
            Whether it succeeded; otherwise the sequence is empty.
        """
        if self._states:
            self._states.spent(sequence)
        size = data.nbytes
        read = capi.llama_state_seq_set_data_ext(self.handle, _bytes_of(data), size, sequence, 0)
        if read != size:
            capi.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return bool(read == size)

    def copy_state(self, sequence: int = 0) -> StateBytes:
        """Copy a sequence's sliding-window cells and recurrent states to host memory."""
        flags = capi.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        size = capi.llama_state_seq_get_size_ext(self.handle, sequence, flags)
        data = np.empty(size, np.uint8)
        capi.llama_state_seq_get_data_ext(self.handle, _bytes_of(data), size, sequence, flags)
        return data

    def restore_state(self, data: StateBytes, sequence: int = 0) -> bool:
        """Restore a copy of sliding-window cells and recurrent states to a sequence.

        The full-attention layers must hold the sequence's tokens.

        Returns:
            Whether it succeeded; otherwise those layers are empty.
        """
        if self._states:
            self._states.spent(sequence)
        flags, size = capi.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY, data.nbytes
        read = capi.llama_state_seq_set_data_ext(
            self.handle, _bytes_of(data), size, sequence, flags
        )
        return bool(read == size)


def _bytes_of(data: StateBytes) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class _RowView:
    """A numpy view of an output buffer, recreated only if libllama has moved the buffer.

    The view spans the maximum number of rows, but libllama allocates only those of the last decode:
    others must not be accessed.
    """

    def __init__(self, rows: int, width: int) -> None:
        self._rows, self._width = rows, width
        self._address = 0
        self._view: Floats = np.empty((0, width), np.float32)

    def at(self, address: int) -> Floats:
        """View [rows, width] of the buffer at an address."""
        if address != self._address:
            size = self._rows * self._width
            buffer = memoryview((ctypes.c_float * size).from_address(address)).cast("B")
            self._view = np.frombuffer(buffer, np.float32).reshape(self._rows, self._width)
            self._address = address
        return self._view
