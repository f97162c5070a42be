"""Files in messages: reading text files, and completion of `@FILE`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from localmtp.errors import LocalmtpError
from localmtp.tui.media.attachment import MEDIA_SUFFIXES, file_size
from localmtp.tui.rendering.formatting import count

MAX_FILE_BYTES = 1 << 20
"""Size limit: far more than any context holds."""

BYTES_PER_TOKEN = 4
"""Estimated bytes per token, typical of English text and code."""

MAX_SEARCHED = 5000
"""Files listed for completion."""

MAX_DEPTH = 6
"""Levels of folders below the working directory that are searched."""

_SKIPPED = {"node_modules", "__pycache__", "venv", "site-packages"}

_REFERENCE = re.compile(r'(?:^|(?<=\s))@(?:"(?P<quoted>[^"\n]*)"?|(?P<plain>[^\s"]*))$')
"""A reference that ends at the cursor."""


_FILE_COMMAND = re.compile(r"/(?P<name>image|audio|sound|read|set template) (?P<path>[^\n]*)$")
"""A command whose argument, at the cursor, is a file."""

MEDIA_COMMANDS = ("image", "audio", "sound")
"""Commands among them whose file is an image or sound."""


@dataclass(frozen=True, slots=True)
class FileMatch:
    """A file that `@FILE` may be completed to."""

    path: str
    """Relative to the working directory, or as the user began it."""
    nbytes: int

    @property
    def reference(self) -> str:
        """The reference as written in a message."""
        return f'@"{self.path}"' if re.search(r"\s", self.path) else f"@{self.path}"

    @property
    def is_media(self) -> bool:
        """Whether its name is that of an image or sound, which is not inserted as text."""
        return Path(self.path).suffix.lower() in MEDIA_SUFFIXES

    @property
    def description(self) -> str:
        """Size, and for text the estimated number of tokens."""
        return file_size(self.nbytes) if self.is_media else describe(self.nbytes)


def describe(nbytes: int) -> str:
    """Formats a size with the estimated number of tokens."""
    size = f"{nbytes} B" if nbytes < 1000 else f"{nbytes / 1000:,.1f} kB"
    return f"{size}, about {count(max(1, nbytes // BYTES_PER_TOKEN), 'token')}"


def read_text(path: Path) -> str:
    """Reads a text file.

    Raises:
        LocalmtpError: it is missing, not a regular file, binary, or too large.
    """
    try:
        if path.exists() and not path.is_file():
            # Reading a pipe or a device might never end.
            raise LocalmtpError(f"{path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LocalmtpError(f"cannot read {path}: {reason}") from error
    if len(content) > MAX_FILE_BYTES:
        raise LocalmtpError(f"{path} is larger than 1 MiB", hint="attach a part of it")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise LocalmtpError(f"{path} is not a text file", hint="only UTF-8 text can be attached")
    return text


def as_block(name: str, text: str) -> str:
    """Formats a file as a fenced block under its name; the fence is longer than any inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{name}:\n\n{fence}\n{text.rstrip()}\n{fence}"


def reference_before(text: str) -> str | None:
    """Returns the incomplete path of a reference at the end of a text; None without one."""
    match = _REFERENCE.search(text)
    return None if match is None else match["quoted"] or match["plain"] or ""


def argument_before(text: str) -> tuple[str, str] | None:
    """Returns command and incomplete path of a text such as `/image PATH`; None for others."""
    match = _FILE_COMMAND.match(text)
    return None if match is None else (match["name"], match["path"])


def complete_reference(text: str, match: FileMatch) -> str:
    """Returns the text with the reference at its end completed."""
    return _REFERENCE.sub("", text) + match.reference + " "


def expand_references(text: str, attached: Mapping[str, FileMatch]) -> tuple[str, str]:
    """Appends the attached files that a message refers to.

    Args:
        text: of the message.
        attached: files by their references; other references stay text.

    Returns:
        The message, and a notice with the size of each file, which may be empty.

    Raises:
        LocalmtpError: a file cannot be attached.
    """
    blocks, notices = [], []
    for reference, match in attached.items():
        if re.search(rf"(?:^|(?<=\s)){re.escape(reference)}(?!\S)", text):
            content = read_text(Path(match.path).expanduser())
            blocks.append(as_block(match.path, content))
            notices.append(f"attached {match.path}: {describe(len(content.encode()))}")
    return "\n\n".join([text, *blocks]), "; ".join(notices)


def files_below(folder: Path) -> list[FileMatch]:
    """Lists files in a folder and its subfolders, without hidden ones; blocking.

    At most `MAX_SEARCHED` files, those nearest to the folder first.
    """
    return [match for match, _ in zip(_walk(folder), range(MAX_SEARCHED), strict=False)]


def files_in_folder_of(beginning: str) -> list[FileMatch]:
    """Lists the files of the folder in which an incomplete path ends; blocking."""
    folder, _, _ = beginning.rpartition("/")
    try:
        with os.scandir(Path(f"{folder}/").expanduser()) as entries:
            return sorted(
                (FileMatch(f"{folder}/{e.name}", e.stat().st_size) for e in entries if e.is_file()),
                key=lambda match: match.path,
            )[:MAX_SEARCHED]
    except (OSError, ValueError):
        return []


def is_path(beginning: str) -> bool:
    """Returns whether a beginning names a folder outside the working directory."""
    return beginning.startswith(("/", "~/", "./", "../"))


def matching_files(files: list[FileMatch], beginning: str) -> list[FileMatch]:
    """Returns the files that contain the characters in order; the closest matches first."""
    name = beginning.rpartition("/")[2] if is_path(beginning) else beginning
    pattern = re.compile(".*?".join(map(re.escape, name)), re.IGNORECASE)
    lowered = name.lower()

    def rank(match: FileMatch) -> tuple[bool, bool, bool, int, str]:
        path = match.path.lower()
        base = path.rpartition("/")[2]
        starts = base.startswith(lowered)
        return (not starts, lowered not in base, lowered not in path, len(path), path)

    return sorted((match for match in files if pattern.search(match.path)), key=rank)


def _walk(folder: Path) -> Iterator[FileMatch]:
    level = [""]
    for _ in range(MAX_DEPTH):
        below: list[str] = []
        for prefix in level:
            try:
                with os.scandir(folder / prefix) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in found:
                if entry.name.startswith(".") or entry.name in _SKIPPED:
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(f"{prefix}{entry.name}/")
                    elif entry.is_file():
                        yield FileMatch(f"{prefix}{entry.name}", entry.stat().st_size)
                except OSError:
                    continue
        level = below
