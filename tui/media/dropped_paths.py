"""Paths in pasted text: terminals paste the path of a file that is dropped on them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_CHARACTERS = 8192
"""Longer text is no list of paths."""

MAX_PATHS = 16
"""Files dropped together."""

_ABSOLUTE = re.compile(r"""\s*(?:["']?(?:/|~/|[A-Za-z]:[\\/]|\\\\)|file://)""")
"""The beginning of an absolute path as terminals paste it."""


def may_be_paths(text: str) -> bool:
    """Returns whether a pasted text begins as a path does."""
    return len(text) <= MAX_CHARACTERS and bool(_ABSOLUTE.match(text))


def dropped_paths(text: str) -> list[Path]:
    """Returns the existing files that a pasted text consists of; blocking.

    Recognized are plain paths, also with spaces, paths quoted or escaped for a shell, and `file`
    URLs; several on lines of their own or separated by spaces.

    Returns:
        The paths in their order; none if any part of the text is no existing file.
    """
    if not may_be_paths(text):
        return []
    whole = text.strip()
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    for parts in ([whole], lines, _shell_words(whole), _shell_words(whole, posix=False)):
        if 0 < len(parts) <= MAX_PATHS and all(map(may_be_paths, parts)):
            paths = list(map(_path, parts))
            if all(map(_exists, paths)):
                return paths
    return []


def typed_path(text: str) -> Path:
    """Returns the path of an argument, which may be written as for a shell or as a `file` URL."""
    plain = Path(text).expanduser()
    words = _shell_words(text)
    if _exists(plain) or len(words) != 1:
        return plain
    return _path(words[0])


def _shell_words(text: str, *, posix: bool = True) -> list[str]:
    try:
        words = shlex.split(text, posix=posix)
    except ValueError:
        return []
    return words if posix else [word.strip("\"'") for word in words]


def _path(text: str) -> Path:
    text = text.strip()
    if text.lower().startswith("file://"):
        # file:///C:/x on Windows; a host is ignored, as all others do.
        text = unquote(urlsplit(text).path)
        if re.match(r"/[A-Za-z]:", text):
            text = text[1:]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return Path(text).expanduser()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError, RuntimeError):
        return False
