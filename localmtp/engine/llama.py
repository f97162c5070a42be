"""libllama as small Python objects: the only module that touches the C API.

Everything above works with token ids, numpy arrays and these classes; pointers stay here. Objects
free what they own when closed, when collected, or at exit, contexts before their models. The MTP
entry points are llama.cpp's `llama-ext.h`, declared experimental there, which is why
llama-cpp-python is pinned exactly.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from llama_cpp import llama_cpp as capi
from llama_cpp import llama_cpp_ext as capi_ext
from llama_cpp.llama_grammar import json_schema_to_gbnf
from numpy.typing import NDArray

from localmtp.engine.kv_type import KVType
from localmtp.errors import LocalmtpError

Floats = NDArray[np.float32]
TokenIds = NDArray[np.int32]
StateBytes = NDArray[np.uint8]

ALL_LAYERS = -1
"""`gpu_layers`: as many as the build can offload."""

_WARN, _CONTINUED = 3, 5  # ggml_log_level: 3 warning, 4 error, 5 continues the line before
_log: deque[str] = deque(maxlen=64)


@capi.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_log(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode("utf-8", "replace")
    if level == _CONTINUED:
        _log.append((_log.pop() if _log else "") + line)
    else:
        _log.append(line)


capi.llama_log_set(_keep_log, ctypes.c_void_p(0))
capi.llama_backend_init()


def library() -> ctypes.CDLL:
    """The loaded libllama; ggml's symbols resolve through it on every platform but Windows."""
    return capi._lib  # type: ignore[no-any-return]


def system_info() -> str:
    """The backends and instruction sets compiled in, as libllama prints them."""
    return capi.llama_print_system_info().decode()  # type: ignore[no-any-return]


def gbnf(schema: str) -> str:
    """The JSON texts that a JSON schema allows, as a grammar; raises what the converter raises."""
    return json_schema_to_gbnf(schema)  # type: ignore[no-any-return]


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """Collect what libllama logs inside the block, once it has ended."""
    _log.clear()
    lines: list[str] = []
    try:
        yield lines
    finally:
        lines.extend(line.strip() for line in _log if line.strip())


class _Owned:
    """Something of libllama's that must be freed once."""

    _finalizer: weakref.finalize[Any, Any]

    def close(self) -> None:
        """Free it now; closing twice is harmless."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Model(_Owned):
    """A GGUF file's weights, vocabulary and metadata.

    Args:
        path: the GGUF file (of a split model, the first part).
        gpu_layers: layers to offload; `ALL_LAYERS` for as many as possible.
        repack: copy weights that are computed on the CPU into a faster layout where there is one.
        progress: told the share that is loaded; False gives loading up. Must not raise.

    Raises:
        LocalmtpError: libllama could not load it; the message carries libllama's reason.
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
            told = capi.llama_progress_callback(lambda part, _user_data: progress(part))
            params.progress_callback = told
        with log_lines() as lines:
            self.handle = capi.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise LocalmtpError(f"cannot load {path}: {_reason(lines)}")
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


def _reason(lines: Sequence[str]) -> str:
    """The most telling of libllama's log lines, without function names."""
    telling = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    line = (telling or list(lines) or ["libllama gave no reason"])[0]
    return line.rpartition("error loading model: ")[2].rpartition(": error: ")[2]


class _PieceBuffer(threading.local):
    """Where libllama writes a token's bytes; a server's threads must not share it."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(1 << 12)


class Vocab:
    """Text to token ids and back, as the GGUF's tokenizer does it."""

    def __init__(self, model: Model) -> None:
        self._handle = capi.llama_model_get_vocab(model.handle)
        self.size: int = capi.llama_vocab_n_tokens(self._handle)
        self.bos: int = capi.llama_vocab_bos(self._handle)
        self.adds_bos: bool = capi.llama_vocab_get_add_bos(self._handle)
        self.suppressed = self._read_suppressed()
        self._piece = _PieceBuffer()

    def _read_suppressed(self) -> TokenIds:
        count = ctypes.c_int32()
        ids = capi.llama_vocab_get_suppress_tokens(self._handle, ctypes.byref(count))
        return np.array([ids[i] for i in range(count.value)], np.int32)

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`, without BOS.

        Args:
            text: any string.
            special: whether control tokens written out in `text` become those tokens.
        """
        data = text.encode("utf-8", "surrogateescape")
        # A byte never becomes more than one token; a few spare for what the tokenizer adds.
        ids = (capi.llama_token * (len(data) + 8))()
        n = capi.llama_tokenize(self._handle, data, len(data), ids, len(ids), False, special)
        return list(ids[:n])

    def piece(self, token_id: int, *, special: bool = False) -> bytes:
        """The bytes a token stands for: perhaps part of a character; none for control tokens."""
        buffer = self._piece.buffer
        n = capi.llama_token_to_piece(self._handle, token_id, buffer, len(buffer), 0, special)
        return ctypes.string_at(buffer, max(0, n))

    def same_as(self, other: Vocab) -> bool:
        """Whether sizes agree, and a sample of the tokens: enough to tell models apart."""
        return self.size == other.size and all(
            self.piece(i, special=True) == other.piece(i, special=True)
            for i in range(0, self.size, max(1, self.size // 512))
        )

    def ends_generation(self, token_id: int) -> bool:
        """Whether the model ends its turn with this token."""
        return bool(capi.llama_vocab_is_eog(self._handle, token_id))


class Batch(_Owned):
    """Rows for one decode of sequence 0, filled in place.

    Args:
        rows: how many rows fit.
        n_embd: for a drafter's batch: length of the hidden row that goes with each token.
    """

    def __init__(self, rows: int, *, n_embd: int = 0) -> None:
        self.c = capi.llama_batch_init(rows, n_embd, 1)
        self._tokens = (capi.llama_token * rows)()
        if n_embd:
            # llama_batch_init allocates either embd or token; an MTP drafter reads both.
            self.hidden = np.ctypeslib.as_array(self.c.embd, (rows, n_embd))
            self.c.token = ctypes.cast(self._tokens, ctypes.POINTER(capi.llama_token))
        self._finalizer = weakref.finalize(self, _free_batch, self.c, bool(n_embd))
        self.tokens: TokenIds = np.ctypeslib.as_array(self.c.token, (rows,))
        self.positions: TokenIds = np.ctypeslib.as_array(self.c.pos, (rows,))
        self.wants_logits: NDArray[np.int8] = np.ctypeslib.as_array(self.c.logits, (rows,))
        np.ctypeslib.as_array(self.c.n_seq_id, (rows,))[:] = 1
        for row in range(rows):
            self.c.seq_id[row][0] = 0
        self._counting = np.arange(rows, dtype=np.int32)
        self.n_outputs = 0
        """Rows that ask for logits."""

    def fill(self, tokens: Sequence[int], position: int, *, all_logits: bool) -> None:
        """Lay out consecutive tokens.

        Args:
            tokens: ids, as many as rows at most.
            position: of the first of them in the sequence.
            all_logits: logits and hidden rows for each token, or for the last one alone.
        """
        n = len(tokens)
        self.c.n_tokens = n
        self.tokens[:n] = tokens
        np.add(self._counting[:n], position, out=self.positions[:n])
        self.wants_logits[:n] = all_logits
        self.wants_logits[n - 1] = True
        self.n_outputs = n if all_logits else 1


def _free_batch(batch: capi.llama_batch, borrowed_tokens: bool) -> None:
    if borrowed_tokens:
        batch.token = None  # ours, not libllama's to free
    capi.llama_batch_free(batch)


class Context(_Owned):
    """A model's working state: the KV cache of one sequence and the outputs of the last decode.

    Args:
        model: stays loaded as long as its contexts live.
        n_ctx: positions.
        n_batch: rows of the largest decode.
        n_outputs: rows of a decode that may ask for logits; each reserves n_vocab floats.
        threads: CPU threads.
        full_window: keep sliding-window layers at full context size, so that any earlier
            position can be returned to.
        kv_type: of the KV cache.
        target: makes this an MTP drafter's context, which reads the KV cache of `target`.

    Raises:
        LocalmtpError: libllama could not create it (memory, as a rule).
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
        target: Context | None = None,
    ) -> None:
        params = capi.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = n_batch
        params.n_outputs_max = n_outputs
        params.n_threads = params.n_threads_batch = threads
        params.swa_full = full_window
        params.type_k = params.type_v = kv_type.ggml_type
        params.no_perf = True
        if target is not None:
            params.ctx_type = capi.LLAMA_CONTEXT_TYPE_MTP
            params.ctx_other = target.handle
        with log_lines() as lines:
            self.handle: Any = capi.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LocalmtpError(
                f"cannot run {model.path} with a context of {n_ctx}: {_reason(lines)}",
                hint="a smaller context needs less memory: --ctx 2048",
            )
        # Both hold their owner, so that nothing is freed under a context.
        self.model, self.target = model, target
        self._finalizer = weakref.finalize(self, capi.llama_free, self.handle)
        # Masked: hidden rows for the rows that ask for logits, no copy of every prompt row.
        capi_ext.llama_set_embeddings_nextn(self.handle, True, True)
        self.n_ctx: int = capi.llama_n_ctx(self.handle)
        self._memory = capi.llama_get_memory(self.handle)
        self._n_outputs = 0
        self._logits = _RowView(n_outputs, model.vocab.size)
        self._hidden = _RowView(n_outputs, model.n_embd_out)

    def decode(self, batch: Batch) -> None:
        """Run the model over a batch; its keys and values join the cache.

        Raises:
            LocalmtpError: the batch did not fit the context, or the backend failed.
        """
        status = capi.llama_decode(self.handle, batch.c)
        self._n_outputs = batch.n_outputs
        if status == 1:
            raise LocalmtpError(
                f"the context of {self.n_ctx} tokens is full", hint="a larger one: --ctx N"
            )
        if status:
            raise LocalmtpError(f"libllama could not decode (code {status}): {_reason(_log)}")

    def logits(self) -> Floats:
        """[rows that asked for logits, n_vocab]: a view, valid until the next decode."""
        return self._logits.at(capi.llama_get_logits(self.handle))[: self._n_outputs]

    def hidden(self) -> Floats:
        """[rows that asked for logits, n_embd of the target]: what a drafter reads.

        Of a target the hidden state after its final norm, of a drafter its projection back to the
        target's width. A view, valid until the next decode.
        """
        return self._hidden.at(capi_ext.llama_get_embeddings_nextn(self.handle))[: self._n_outputs]

    def forget_from(self, position: int) -> None:
        """Drop the cache at `position` and after it."""
        capi.llama_memory_seq_rm(self._memory, 0, position, -1)

    def earliest_position(self) -> int:
        """The first position that every layer, sliding ones included, still holds (-1: empty)."""
        return int(capi.llama_memory_seq_pos_min(self._memory, 0))

    def copy_window(self) -> StateBytes:
        """What the sliding layers hold, in host memory."""
        flags = capi.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        size = capi.llama_state_seq_get_size_ext(self.handle, 0, flags)
        data = np.empty(size, np.uint8)
        capi.llama_state_seq_get_data_ext(self.handle, _bytes_of(data), size, 0, flags)
        return data

    def restore_window(self, data: StateBytes) -> bool:
        """Put a copy back into the sliding layers; the full ones must still hold its tokens.

        Returns:
            Whether it went in; if not, the sliding layers are empty.
        """
        flags = capi.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        size = data.nbytes
        read = capi.llama_state_seq_set_data_ext(self.handle, _bytes_of(data), size, 0, flags)
        return bool(read == size)


def _bytes_of(data: StateBytes) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class _RowView:
    """A numpy view of an output buffer, made anew only when libllama has moved the buffer.

    It spans the most rows that a decode can give; libllama has allocated no more than the last
    one gave, so only those may be touched.
    """

    def __init__(self, rows: int, width: int) -> None:
        self._rows, self._width = rows, width
        self._address = 0
        self._view: Floats = np.empty((0, width), np.float32)

    def at(self, pointer: ctypes.c_void_p) -> Floats:
        """[rows, width] at `pointer`."""
        address = ctypes.cast(pointer, ctypes.c_void_p).value or 0
        if address != self._address:
            size = self._rows * self._width
            buffer = memoryview((ctypes.c_float * size).from_address(address)).cast("B")
            self._view = np.frombuffer(buffer, np.float32).reshape(self._rows, self._width)
            self._address = address
        return self._view
