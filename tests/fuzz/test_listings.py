"""Listings of a hostile hub: a plan, or an error of one line."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from localmtp.errors import LocalmtpError
from localmtp.models.embedded import embedded_files
from localmtp.models.naming.reference import parse_reference
from localmtp.models.store.pull import plan_pull
from tests.fuzz.budget import examples, one_input, peak_memory, seeds
from tests.fuzz.json_mutator import odd, raw
from tests.hub import Hub

_PEAK_MEGABYTES = 256
_REPO = "someone/tiny-GGUF"
_NAMES = (
    *("tiny-Q8_0.gguf", "mtp-tiny.gguf", "tiny-Q4_0-00001-of-00002.gguf", "mmproj-tiny.gguf"),
    *("../tiny.gguf", "/tiny.gguf", "a\\tiny.gguf", "\x1b[2J.gguf", "tiny-99999-of-99999.gguf"),
    *(".gguf", "tiny-00000-of-00000.gguf", "tiny-00002-of-00001.gguf", "a" * 4000 + ".gguf"),
)
_KEYS = ("sha", "author", "gated", "cardData", "library_name", "createdAt", "other")


@pytest.fixture(autouse=True)
def own_hub(
    hub: Hub, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Isolates the cache, and sends requests to the loopback hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("c")))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("localmtp.models.store.hub._WAITS_S", ())
    files = embedded_files()
    assert files.drafter
    repository = {"tiny-Q8_0.gguf": files.target, "mtp-tiny.gguf": files.drafter}
    hub.publish(_REPO, {name: path.read_bytes() for name, path in repository.items()})


@pytest.fixture
def hub() -> Any:
    with Hub().running() as running:
        yield running


def test_listings(hub: Hub) -> None:
    counts = Counter[str]()
    with peak_memory(_PEAK_MEGABYTES):
        for seed in seeds(examples(30, 0.5)):
            with one_input(seed) as rng:
                listing = _listing(rng)
                hub.faults.listing = (
                    raw(listing, rng) if rng.random() < 0.7 else json.dumps(listing).encode()
                )
                counts[_plan()] += 1
    print(dict(counts))
    assert counts["planned"] and counts["refused"]


def _listing(rng: Random) -> dict[str, Any]:
    names = [*_NAMES[:2], *rng.sample(_NAMES, rng.randrange(4))]
    return {
        **{"id": _REPO, "modelId": _REPO, "sha": "a" * 40, "private": False, "gated": False},
        **{"tags": [], "downloads": 0, "likes": 0, rng.choice(_KEYS): odd(rng)},
        "siblings": [
            {
                "rfilename": name,
                "size": rng.choice((1, 0, 1 << 20, 1 << 62)),
                "blobId": "a" * 40,
                rng.choice(("lfs", "other")): {"sha256": "b" * 64, "size": 1, "pointerSize": 1},
            }
            for name in names
        ],
    }


def _plan() -> str:
    try:
        plan = plan_pull(parse_reference(_REPO))
        assert plan.shortage is not None
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 9000
        return "refused"
    return "planned"
