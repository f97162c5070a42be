"""libllama itself: its functions, its log, and objects that must be freed."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llama_cpp import llama_cpp as capi

_WARN, _CONTINUED = 3, 5  # ggml_log_level: 3 warning, 4 error, 5 continues the line before
_GGML = "ggml", "ggml-base", "ggml-cpu"

_log: deque[str] = deque(maxlen=64)


@capi.llama_log_callback  # type: ignore[untyped-decorator]
def keep_log(level: int, text: bytes, _user_data: object) -> None:
    """Keeps a line of libllama's, or libmtmd's, log for `log_lines`."""
    line = text.decode("utf-8", "replace")
    if level == _CONTINUED:
        _log.append((_log.pop() if _log else "") + line)
    else:
        _log.append(line)


# Thirty lines of a debugger's output help nobody who did not build libllama.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")
capi.llama_log_set(keep_log, ctypes.c_void_p(0))
capi.llama_backend_init()


class Functions:
    """Functions of libllama and of the ggml libraries beneath it, found by name.

    A handle of its own: argument types declared on it leave llama_cpp's bindings alone. On Windows
        a library resolves only the symbols that it defines itself, so ggml's libraries are searched
        one by one; elsewhere all symbols resolve through libllama.
    """

    def __init__(self) -> None:
        self._libraries = [ctypes.CDLL(path) for path in _library_files(str(capi._lib._name))]

    def __getattr__(self, name: str) -> Any:
        for each in self._libraries:
            with suppress(AttributeError):
                function = getattr(each, name)
                setattr(self, name, function)
                return function
        raise AttributeError(f"neither libllama nor ggml has a function {name}")


def _library_files(libllama: str) -> list[str]:
    if sys.platform != "win32":
        return [libllama]
    folder = Path(libllama).parent
    names = (f"{prefix}{each}.dll" for each in _GGML for prefix in ("", "lib"))
    return [libllama, *(str(folder / name) for name in names if (folder / name).exists())]


def system_info() -> str:
    """Compiled-in backends and instruction sets, as libllama prints them."""
    return capi.llama_print_system_info().decode()  # type: ignore[no-any-return]


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """Collect the lines that libllama logs inside the block; complete once it has ended."""
    _log.clear()
    lines: list[str] = []
    try:
        yield lines
    finally:
        lines.extend(line.strip() for line in _log if line.strip())


def reason(lines: Sequence[str] | None = None) -> str:
    """The most informative of `lines`, or of the latest log lines, without function names."""
    given = list(_log if lines is None else lines)
    errors = [line for line in given if "error" in line.lower() or "failed" in line.lower()]
    line = (errors or given or ["libllama gave no reason"])[0]
    return line.rpartition("error loading model: ")[2].rpartition(": error: ")[2]


class Owned:
    """An object of libllama that must be freed once."""

    _finalizer: weakref.finalize[Any, Any]

    def close(self) -> None:
        """Free the object now; idempotent."""
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
