"""Prompts and answers on disk, as the state of their sequences: they need not be prefilled again.

A conversation that returns, after a restart or after others took its sequence, is loaded instead.
Files belong to a model and the settings that its state depends on, and are found by their tokens.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from queue import Empty, Queue
from threading import Lock, Thread

import numpy as np

from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.decoding.state import SequenceState
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.errors import LocalmtpError
from localmtp.models import ModelFiles
from localmtp.models.load_check import record_of
from localmtp.session.cache_file import (
    CacheEntry,
    DamagedFileError,
    read_entry,
    read_state,
    write_state,
)

_LOG = logging.getLogger(__name__)

_MIN_TOKENS = 64
"""Shorter prompts are prefilled sooner than loaded."""

_MIN_GAIN = 32
"""Tokens that loading must save."""

_ABANDONED_S = 3600.0
"""Age in seconds of a temporary file whose writer has died."""

_JOIN_S = 10.0

_RECENT = 4

_MOST_QUEUED = 1 << 30
"""Bytes that may wait for a slow disk, beyond one state: with two checkpoints it takes 470 MB on
Qwen 3.5 27B, and the KV cache."""


class PromptCache:
    """The cache of one loaded pair. Its methods belong to the thread of the model.

    Args:
        directory: of the files; made if necessary.
        pair: whose sequences are saved and loaded.
        files: of the pair.
        max_bytes: of all files in the directory, of other models too.

    Raises:
        LocalmtpError: the directory cannot be used.
    """

    def __init__(self, directory: Path, pair: Pair, files: ModelFiles, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self.warnings: list[str] = []
        """One line about each file that was dropped because it is damaged."""
        self._key = _key(pair, files)
        self._window = pair.target.needs_checkpoints or pair.target.model.n_swa > 0
        self._n_ctx = pair.target.n_ctx
        self._entries: dict[Path, CacheEntry] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._entries = self._scanned()
        except OSError as error:
            reason = (
                "it is not a directory"
                if directory.exists() and not directory.is_dir()
                else error.strerror
            )
            raise LocalmtpError(
                f"cannot keep a cache in {directory}: {reason}",
                hint="name a directory that can be written with `--cache DIR`",
            ) from error
        self._saved: dict[int, tuple[int, ...]] = {}
        """Tokens that were saved of each sequence last."""
        self._queue: Queue[SequenceState | None] = Queue()
        self._queued = 0
        self._lock = Lock()
        """Of `_queued`, the bytes of states in the queue."""
        self._written: Queue[CacheEntry] = Queue()
        self._writer = Thread(target=self._write, name="prompt cache", daemon=True)
        self._writer.start()

    def restore(self, loop: DecodeLoop, prompt: Sequence[int]) -> bool:
        """Loads the state with the longest prefix of a prompt, if it holds more than sequences do.

        Args:
            loop: with a free sequence.
            prompt: token ids.
        """
        self._collect()
        ids = np.array(prompt, np.int64)
        usable = {path: self._usable(entry, ids) for path, entry in self._entries.items()}
        path = max(usable, key=usable.__getitem__, default=None)
        if path is None or usable[path] < loop.longest_prefix(prompt) + _MIN_GAIN:
            return False
        try:
            state = read_state(path, self._key)
        except (OSError, DamagedFileError, ValueError) as error:
            self._drop(path, error)
            return False
        if not loop.load(state):
            self._drop(path)
            return False
        with suppress(OSError):
            os.utime(path)
        return True

    def save(self, loop: DecodeLoop, sequences: Sequence[TargetSequence]) -> None:
        """Queues the states of sequences that have changed, unless too much waits for the disk.

        Args:
            loop: of the sequences.
            sequences: without answers.
        """
        for sequence in sequences:
            tokens = tuple(sequence.tokens)
            if len(tokens) < _MIN_TOKENS or self._saved.get(sequence.index) == tokens:
                continue
            if self._queued > _MOST_QUEUED:
                return
            self._saved[sequence.index] = tokens
            if self._path(tokens) not in self._entries and (state := loop.state(sequence)):
                self._count(state.nbytes)
                self._queue.put(state)

    def recent(self) -> list[Sequence[int]]:
        """Tokens of the latest states: text that they hold is tokenized as they are."""
        self._collect()
        return [entry.tokens.tolist() for entry in [*self._entries.values()][-_RECENT:]]

    def close(self) -> None:
        """Waits until queued states are written, but not for long."""
        self._queue.put(None)
        self._writer.join(_JOIN_S)

    def _usable(self, entry: CacheEntry, prompt: np.ndarray) -> int:
        """Tokens of a prompt that a state saves: up to where both agree, or a checkpoint."""
        most = min(len(entry.tokens), len(prompt) - 1)
        if len(entry.tokens) >= self._n_ctx or most <= 0:
            return 0
        differ = (entry.tokens[:most] != prompt[:most]).nonzero()[0]
        shared = int(differ[0]) if differ.size else most
        if shared == len(entry.tokens) or not self._window:
            return shared
        return max((at for at in entry.checkpoints if at <= shared), default=0)

    def _scanned(self) -> dict[Path, CacheEntry]:
        found = {}
        for path in self._directory.glob(".localmtp-*.part"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
        for path in self._directory.glob(f"{self._key[:16]}-*.prompt"):
            try:
                found[path] = read_entry(path, self._key)
            except (OSError, DamagedFileError, ValueError) as error:
                self._drop(path, error)
        return found

    def _drop(self, path: Path, error: Exception | None = None) -> None:
        """Deletes a file that cannot be used, and warns of it.

        Args:
            path: of the file.
            error: raised on reading it; None if libllama does not load what it holds.
        """
        self._entries.pop(path, None)
        if isinstance(error, FileNotFoundError):
            return  # another process made room
        reason = (
            f"cannot be read ({error.strerror})" if isinstance(error, OSError) else "is damaged"
        )
        try:
            path.unlink(missing_ok=True)
            done = "was deleted"
        except OSError:
            done = "is ignored"
        text = f"prompt cache: {path} {reason} and {done}; its conversation is prefilled again"
        self.warnings.append(text)
        _LOG.warning("%s", text)

    def _path(self, tokens: Sequence[int]) -> Path:
        digest = sha256(np.array(tokens, np.int64).tobytes()).hexdigest()
        return self._directory / f"{self._key[:16]}-{digest[:32]}.prompt"

    def _forget(self, path: Path) -> None:
        self._entries.pop(path, None)
        with suppress(OSError):
            path.unlink()

    def _collect(self) -> None:
        """Adds what the writer has written; states that it continues are not needed any more."""
        with suppress(Empty):
            while True:
                entry = self._written.get_nowait()
                for path, other in list(self._entries.items()):
                    length = len(other.tokens)
                    continued = length < len(entry.tokens) and np.array_equal(
                        other.tokens, entry.tokens[:length]
                    )
                    if continued or not path.exists():
                        self._forget(path)
                self._entries[entry.path] = entry

    def _count(self, queued: int) -> None:
        with self._lock:
            self._queued += queued

    def _write(self) -> None:
        """Writes queued states; runs in a thread of its own."""
        while (state := self._queue.get()) is not None:
            path = self._path(state.tokens)
            try:
                write_state(path, self._key, state)
                self._written.put(read_entry(path, self._key))
                self._make_room(path)
            except (LocalmtpError, OSError, DamagedFileError) as error:
                _LOG.warning("the prompt cache cannot be written: %s", error)
            self._count(-state.nbytes)

    def _make_room(self, newest: Path) -> None:
        """Deletes the least recently used files beyond the limit."""
        files = []
        for path in self._directory.glob("*.prompt"):
            with suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            if path != newest or size > self._max_bytes:
                with suppress(OSError):
                    path.unlink()
                    total -= size


def open_cache(options: LoadOptions, pair: Pair, files: ModelFiles) -> PromptCache | None:
    """Opens the cache of a pair; None without a directory.

    Args:
        options: how the pair was loaded.
        pair: whose sequences are saved and loaded.
        files: of the pair.

    Raises:
        LocalmtpError: the directory cannot be used.
    """
    if options.prompt_cache is None:
        return None
    return PromptCache(options.prompt_cache, pair, files, options.prompt_cache_bytes)


def _key(pair: Pair, files: ModelFiles) -> str:
    """Identifies a model and the settings that its state depends on."""
    target = pair.target
    parts = [
        version("llama-cpp-python"),
        record_of(*([files.target, files.drafter] if files.drafter else [files.target])).stem,
        target.kv_type,
        f"window {target.window}",
        f"hidden {len(pair.sequences[0].hidden)}",
        f"flash attention {target.model.offload.options.flash_attn}",
        *(device.description for device in target.model.offload.devices),
    ]
    return sha256("\n".join(parts).encode(errors="replace")).hexdigest()
