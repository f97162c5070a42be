"""Replaces text that cannot be encoded as UTF-8."""

from __future__ import annotations


def replace_surrogates(text: str) -> str:
    r"""Replaces lone surrogates by U+FFFD; joins pairs to the character that they stand for.

    JSON can express both (`"\ud83d"`), and command-line arguments that are not UTF-8 contain them;
    neither UTF-8 nor SQLite nor a terminal accepts them.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
