"""Mutated GGUF headers: entries of the wrong type, size or value, damaged bytes, cut ends."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

UINT8, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 0, 4, 5, 6, 7, 8, 9, 10
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

EXTREMES = (0, 1, 2, 3, 31, 127, 255, 511, 513, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
EXTREMES_64 = (*EXTREMES, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e30, float("inf"), float("-inf"), float("nan"))
_TEXTS = (b"", b"gemma4", b"gemma4-assistant", b"llama", b"\xff\xfe", b"\xed\xa0\x80", b"a\x00b")


def text(value: bytes) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value)) + value


@dataclass
class GgufHeader:
    """A GGUF header that can be changed and serialized again."""

    values: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Key, and its encoded type and value."""
    tensors: list[tuple[bytes, list[int], int, int]] = field(default_factory=list)
    """Name, shape, type, offset."""

    def serialized(self, n_tensors: int | None = None, n_values: int | None = None) -> bytes:
        """The bytes of the header; the counts can be wrong on purpose."""
        counts = (
            len(self.tensors) if n_tensors is None else n_tensors,
            len(self.values) if n_values is None else n_values,
        )
        parts = [struct.pack("<4sIQQ", b"GGUF", 3, *counts)]
        parts += [text(key) + value for key, value in self.values]
        for name, shape, kind, offset in self.tensors:
            parts.append(text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
            parts.append(struct.pack("<IQ", kind, offset))
        return b"".join(parts)


def read(path: Path, longest_array: int = 40) -> GgufHeader:
    """Read the header of a valid file; longer arrays, such as vocabularies, are shortened."""
    data = path.read_bytes()
    n_tensors, n_values = struct.unpack_from("<QQ", data, 8)
    at, header = 24, GgufHeader()
    for _ in range(n_values):
        key, at = _string(data, at)
        end = _value_end(data, at)
        header.values.append((key, _shortened(data[at:end], longest_array)))
        at = end
    for _ in range(n_tensors):
        name, at = _string(data, at)
        (rank,) = struct.unpack_from("<I", data, at)
        shape = list(struct.unpack_from(f"<{rank}Q", data, at + 4))
        kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * rank)
        header.tensors.append((name, shape, kind, offset))
        at += 4 + 8 * rank + 12
    return header


def mutated(header: GgufHeader, rng: Random) -> bytes:
    """Serialize a header with one to four random changes."""
    changed = GgufHeader(list(header.values), list(header.tensors))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_STRUCTURAL)(changed, rng)
    if rng.random() < 0.1:
        count = rng.choice(EXTREMES_64)
        data = changed.serialized(**{rng.choice(("n_tensors", "n_values")): count})
    else:
        data = changed.serialized()
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
        data = rng.choice(_BYTEWISE)(data, rng)
    return data


def plausible(header: GgufHeader, rng: Random) -> bytes:
    """Serialize a header that every reader can parse, with one or two values changed."""
    changed = GgufHeader(list(header.values), list(header.tensors))
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice((_replace_number, _replace_number, _replace_element, _remove_value))(
            changed, rng
        )
    return changed.serialized()


def _replace_element(header: GgufHeader, rng: Random) -> None:
    """Another element, of the same size, in an array of numbers."""
    arrays = [
        i
        for i, (_, value) in enumerate(header.values)
        if value[:4] == struct.pack("<I", ARRAY) and struct.unpack_from("<I", value, 4)[0] != STRING
    ]
    if arrays:
        at = rng.choice(arrays)
        key, value = header.values[at]
        size = _SIZES[struct.unpack_from("<I", value, 4)[0]]
        start = 16 + size * rng.randrange((len(value) - 16) // size)
        new = rng.choice(EXTREMES_64) % (1 << 8 * size)
        value = value[:start] + new.to_bytes(size, "little") + value[start + size :]
        header.values[at] = key, value


def _random_value(rng: Random, depth: int = 0) -> bytes:
    """An encoded type and value."""
    kind = rng.choice((UINT32, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, 13, 99))
    if kind == ARRAY and depth < 2:
        inner = _random_value(rng, depth + 1)
        count = rng.choice((0, 1, 6, 30, 512, *EXTREMES_64))
        return struct.pack("<IIQ", ARRAY, *struct.unpack_from("<I", inner), count) + inner[
            4:
        ] * min(count, 600)
    if kind == STRING:
        return struct.pack("<I", STRING) + text(rng.choice(_TEXTS))
    if kind == FLOAT32:
        return struct.pack("<If", FLOAT32, rng.choice(_FLOATS))
    if kind == BOOL:
        return struct.pack("<IB", BOOL, rng.choice((0, 1, 2, 255)))
    if kind == UINT64:
        return struct.pack("<IQ", UINT64, rng.choice(EXTREMES_64))
    return struct.pack("<II", kind, rng.choice(EXTREMES))


def _replace_value(header: GgufHeader, rng: Random) -> None:
    if header.values:
        at = rng.randrange(len(header.values))
        header.values[at] = header.values[at][0], _random_value(rng)


def _replace_number(header: GgufHeader, rng: Random) -> None:
    """Another value of the same type."""
    numbers = [i for i, (_, value) in enumerate(header.values) if len(value) in (5, 8, 12)]
    if numbers:
        at = rng.choice(numbers)
        key, value = header.values[at]
        new = rng.choice(EXTREMES_64) % (1 << 8 * (len(value) - 4))
        header.values[at] = key, value[:4] + new.to_bytes(len(value) - 4, "little")


def _remove_value(header: GgufHeader, rng: Random) -> None:
    if header.values:
        del header.values[rng.randrange(len(header.values))]


def _duplicate_value(header: GgufHeader, rng: Random) -> None:
    if header.values:
        header.values.append((rng.choice(header.values)[0], _random_value(rng)))


def _rename_value(header: GgufHeader, rng: Random) -> None:
    if header.values:
        at = rng.randrange(len(header.values))
        header.values[at] = rng.choice(_TEXTS), header.values[at][1]


def _change_tensor(header: GgufHeader, rng: Random) -> None:
    if header.tensors:
        at = rng.randrange(len(header.tensors))
        name, shape, kind, offset = header.tensors[at]
        change = rng.randrange(5)
        if change == 0:
            shape = [rng.choice(EXTREMES_64) for _ in range(rng.choice((0, 1, 2, 4, 5, 40)))]
        elif change == 1:
            kind = rng.choice(EXTREMES)
        elif change == 2:
            offset = rng.choice(EXTREMES_64)
        elif change == 3:
            name = rng.choice((*_TEXTS, b"blk.99999.x", b"blk.-1.x", header.tensors[0][0]))
        else:
            shape = [rng.choice(EXTREMES_64) for _ in shape]
        header.tensors[at] = name, shape, kind, offset


def _remove_tensor(header: GgufHeader, rng: Random) -> None:
    if header.tensors:
        del header.tensors[rng.randrange(len(header.tensors))]


_STRUCTURAL: tuple[Callable[[GgufHeader, Random], None], ...] = (
    *(_replace_value, _replace_value, _replace_number, _replace_number, _replace_number),
    *(_remove_value, _duplicate_value, _rename_value, _change_tensor, _change_tensor),
    _remove_tensor,
)


def _flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(EXTREMES_64).to_bytes(8, "little") + data[at + 8 :]


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(1, len(data) + 1)]


_BYTEWISE: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _overwrite, _cut)


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length], at + 8 + length


def _value_end(data: bytes, at: int) -> int:
    """End of an encoded type and value."""
    (kind,) = struct.unpack_from("<I", data, at)
    if kind == STRING:
        return _string(data, at + 4)[1]
    if kind != ARRAY:
        return at + 4 + _SIZES[kind]
    inner, count = struct.unpack_from("<IQ", data, at + 4)
    at += 16
    if inner != STRING:
        return int(at + count * _SIZES[inner])
    for _ in range(count):
        at = _string(data, at)[1]
    return at


def _shortened(value: bytes, longest: int) -> bytes:
    """The same value, of an array at most `longest` elements."""
    kind = struct.unpack_from("<I", value)[0]
    if kind != ARRAY or (count := struct.unpack_from("<Q", value, 8)[0]) <= longest:
        return value
    inner, at = struct.unpack_from("<I", value, 4)[0], 16
    for _ in range(longest):
        at = _string(value, at)[1] if inner == STRING else at + _SIZES[inner]
    assert count > longest
    return struct.pack("<IIQ", ARRAY, inner, longest) + value[16:at]
