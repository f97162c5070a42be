"""Vocabularies in GGUF headers: repeated tokens, which libllama aborts on, and special tokens.

Google's own QAT files have tokens twice (ggml-org/llama.cpp#25739). A vocabulary is corrected by
giving repeated tokens texts of their own, in a file without tensors that is loaded in its place.
Some converters declare the markers of turns as ordinary tokens; that is corrected there too.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from localmtp.atomic import atomic_write_bytes
from localmtp.engine.compatibility import DRAFTER, TARGET
from localmtp.errors import LocalmtpError
from localmtp.models.gguf_header import VOCABULARY, Header, read_header

_LENGTH = struct.Struct("<Q")
_STRING = 8  # GGUF_TYPE_STRING
_HEAD = struct.Struct("<4sIQQ")
_TYPES = "tokenizer.ggml.token_type"
_TYPE = struct.Struct("<i")
_NORMAL, _CONTROL = 1, 3  # LLAMA_TOKEN_TYPE_…
_MARKERS = (b"<|turn>", b"<turn|>")
_BOS = "tokenizer.ggml.bos_token_id"


def check_special_tokens(header: Header, name: str) -> None:
    """Checks that there is a vocabulary, with the token that begins prompts if there is one.

    Args:
        header: of a target or drafter, read to its end.
        name: of the file, for the message.

    Raises:
        LocalmtpError: there is no vocabulary, or BOS is not a token of it. Gemma 4 needs one.
    """
    gemma = header.architecture in (TARGET, DRAFTER)
    bos = header.values.get(_BOS, None if gemma else 0)
    if not header.n_vocab:
        problem = "it has no vocabulary"
    elif type(bos) is not int or not 0 <= bos < header.n_vocab:
        problem = f"{_BOS} is {bos}, of {header.n_vocab} tokens"
    else:
        return
    raise LocalmtpError(
        f"{name} has a damaged GGUF header: {problem}", hint="download or convert it again"
    )


def check_same_tokens(target: Path, drafter: Path) -> None:
    """Checks that two files give the same text to every token that both have.

    Raises:
        LocalmtpError: a token differs.
    """
    of_target, of_drafter = (_tokens(path, read_header(path)) for path in (target, drafter))
    for token, (one, other) in enumerate(zip(of_target, of_drafter, strict=False)):
        if one != other:
            raise LocalmtpError(
                f"{drafter} cannot draft for {target.name}: token {token} is {_shown(other)} and "
                f"the target's {_shown(one)}",
                hint="use a smaller model with the same vocabulary; `--drafter none` runs without "
                "one",
            )


def _shown(text: bytes) -> str:
    return repr(text[:32].decode(errors="replace"))


def repeated_tokens(path: Path, header: Header) -> dict[int, int]:
    """Returns the tokens whose text an earlier token has too, each with the earlier one.

    Args:
        path: of a GGUF file.
        header: of that file, read to its end.
    """
    first: dict[bytes, int] = {}
    repeated = {}
    for token, text in enumerate(_tokens(path, header)):
        # libllama gives an empty token a text of its own.
        if text and (same := first.setdefault(text, token)) != token:
            repeated[token] = same
    return repeated


def undeclared_markers(path: Path, header: Header) -> list[int]:
    """Returns the markers of turns that are declared ordinary tokens.

    libllama would not tokenize them as one token, nor end an answer at them.

    Args:
        path: of a GGUF file.
        header: of that file, read to its end.
    """
    if header.lengths.get(_TYPES, 0) != header.n_vocab:
        return []
    markers = [token for token, text in enumerate(_tokens(path, header)) if text in _MARKERS]
    if not markers:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = header.arrays[_TYPES]
        return [t for t in markers if _TYPE.unpack_from(data, start + 4 * t)[0] == _NORMAL]


def write_vocabulary(
    path: Path,
    header: Header,
    repeated: Mapping[int, int],
    out: Path,
    *,
    control: Collection[int] = (),
) -> None:
    """Writes a GGUF file with the metadata of another one, without tensors and repeated tokens.

    Args:
        path: of a GGUF file.
        header: of that file, read to its end.
        repeated: see `repeated_tokens`.
        control: tokens that are declared control tokens.
        out: path to write to; its folder is created.

    Raises:
        LocalmtpError: it cannot be written.
    """
    tokens = list(_tokens(path, header))
    known = set(tokens)
    for token in repeated:
        text = b"<repeated %d>" % token
        while text in known:
            text += b">"
        tokens[token] = text
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        magic, format_, _, n_values = _HEAD.unpack_from(data)
        values = bytearray(data[: header.values_end])
        for token in control:
            _TYPE.pack_into(values, header.arrays[_TYPES] + 4 * token, _CONTROL)
        start = header.arrays[VOCABULARY]
        end = _end_of_tokens(data, start, len(tokens))
        content = b"".join(
            (
                _HEAD.pack(magic, format_, 0, n_values),
                values[_HEAD.size : start],
                *(_LENGTH.pack(len(text)) + text for text in tokens),
                values[end:],
            )
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalmtpError(f"cannot create {out.parent}: {error.strerror}") from error
    # Alignment of the (empty) tensor data.
    atomic_write_bytes(out, content + bytes(-len(content) % 32), durable=False)


def _tokens(path: Path, header: Header) -> Iterator[bytes]:
    """Yields the texts of tokens as libllama reads them: up to a NUL byte."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, read = header.arrays[VOCABULARY], _LENGTH.unpack_from
        if struct.unpack_from("<I", data, at - 12)[0] != _STRING:
            return  # libllama refuses a vocabulary of numbers
        for _ in range(header.n_vocab):
            end = at + 8 + read(data, at)[0]
            yield data[at + 8 : end].partition(b"\0")[0]
            at = end


def _end_of_tokens(data: mmap.mmap, at: int, count: int) -> int:
    for _ in range(count):
        at += 8 + _LENGTH.unpack_from(data, at)[0]
    return at
