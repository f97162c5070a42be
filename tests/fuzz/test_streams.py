"""Answers of a hostile server: an answer, or an error of one line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from localmtp.errors import LocalmtpError
from localmtp.remote.session import open_remote
from tests.fuzz.budget import examples, one_input, peak_memory, seeds
from tests.fuzz.json_mutator import changed, odd, raw
from tests.remote.loopback import Chunk, Script, ended, said, serving, usage

_PEAK_MEGABYTES = 256
_OWNERS = ("someone", "llamacpp", "vllm", "localmtp")
_TIMINGS = {
    **{"cache_n": 1, "prompt_n": 4, "prompt_ms": 3.0, "predicted_n": 2, "predicted_ms": 5.0},
    **{"draft_n": 3, "draft_n_accepted": 1},
}
_DRAFTING = {
    **{"acceptance_histogram": [2, 3, 3, 6], "num_draft_tokens": 42, "num_spec_steps": 14},
    "acceptance_histogram_by_draft_length": {"3": [2, 3, 3, 6]},
}
_CHUNKS: tuple[dict[str, Any], ...] = (
    said("Hello"),
    said("\N{GREEK SMALL LETTER ALPHA}", timings=_TIMINGS),
    said("", prompt_progress={"total": 4, "cache": 1, "processed": 4, "time_ms": 2}),
    {"choices": [{"index": 0, "delta": {"reasoning_content": "So"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {}}]}}]},
    {"choices": [{"index": 0, "text": "a"}]},
    ended(),
    ended("length"),
    usage(7, 3),
    usage(7, 3, metrics={"speculative_decoding": _DRAFTING}),
    {"error": {"message": "out of memory", "code": 500}},
)
_PAGE = 'vllm:spec_decode_num_drafts_total{engine="0"} 4.0\n'


def test_streams() -> None:
    counts = Counter[str]()
    with peak_memory(_PEAK_MEGABYTES), serving(Script()) as script:
        for seed in seeds(examples(30, 0.5)):
            with one_input(seed) as rng:
                script.owner = rng.choice(_OWNERS)
                script.models = tuple(rng.sample(["some-model", "", "\x1b[2J", "a" * 3000], 2))
                script.chunks = _chunks(rng)
                script.pages = [_page(rng) for _ in range(rng.randrange(3))]
                script.done = rng.random() < 0.7
                counts[_ask(script.url)] += 1
    print(dict(counts))
    assert counts["answered"] and counts["refused"]


def _chunks(rng: Random) -> Sequence[Chunk]:
    return [_chunk(rng) for _ in range(rng.randint(1, 6))]


def _chunk(rng: Random) -> Chunk:
    chunk = rng.choice(_CHUNKS)
    kind = rng.random()
    if kind < 0.4:
        return chunk
    if kind < 0.6:
        return b"data: " + json.dumps(changed(chunk, rng)).encode() + b"\n\n"
    if kind < 0.9:
        return b"data: " + raw(chunk, rng) + rng.choice((b"\n\n", b"\r\n\r\n", b"\n", b""))
    ending = rng.choice((b":\n\n", b"event: error\n", b"data:" * 9, b"\xff\xfe\n\n", b"id: 1\n"))
    return ending + json.dumps(odd(rng)).encode()


def _page(rng: Random) -> str:
    page = [_PAGE, "# HELP a b\n", "vllm:spec_decode_num_draft_tokens_total NaN\n", "a{b=\n"]
    return "".join(rng.choices(page, k=rng.randrange(5)))


def _ask(url: str) -> str:
    try:
        session = open_remote(url, None, None, "")
        try:
            list(session.ask("Hi"))
        finally:
            session.close()
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 4000
        return "refused"
    return "answered"
