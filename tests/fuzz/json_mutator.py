"""Random changes of JSON documents."""

from __future__ import annotations

import json
from random import Random
from typing import Any

_ODD: tuple[Any, ...] = (
    *(None, True, False, "", "a", [], {}, [[]], {"a": None}, 0, -1, 1, 0.5, -0.0),
    *(2**31, 2**63, -(2**70), 10**40, 1e308, float("nan"), float("inf")),
    *("\x00", "\ud800", "\x1b]0;a\x07", "‮", "<|turn>", "../../a", "a" * 5000, "a\nb"),
)


def odd(rng: Random) -> Any:
    """Returns a value that no peer should send."""
    return rng.choice(_ODD)


def changed(document: Any, rng: Random, changes: int = 2) -> Any:
    """Returns a copy with values replaced, removed, nested or repeated."""
    document = json.loads(json.dumps(document))
    for _ in range(rng.randint(1, changes)):
        containers = list(_containers(document))
        if not containers:
            return odd(rng)
        inner = rng.choice(containers)
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        kind = rng.random()
        if kind < 0.65:
            inner[key] = odd(rng)
        elif kind < 0.8:
            del inner[key]
        elif kind < 0.9:
            inner[key] = [inner[key]]
        else:
            inner[key] = {"a": inner[key]}
    return document


def raw(document: Any, rng: Random) -> bytes:
    """Returns a changed document as bytes, some of them damaged."""
    data = json.dumps(changed(document, rng), ensure_ascii=rng.random() < 0.9).encode(
        errors="surrogatepass"
    )
    if rng.random() < 0.2 and data:
        at = rng.randrange(len(data))
        data = rng.choice((data[:at], data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]))
    return data


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)
