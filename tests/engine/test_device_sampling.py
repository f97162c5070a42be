"""Tokens chosen in the graph of a pass equal those that the host chooses.

On processors this is forced: it is slower there, and off by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.decoding.device_sampling import DeviceSampling
from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.device_options import DeviceOptions, Switch
from localmtp.engine.events import Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.models import resolve
from localmtp.session.prompts import prompt_tokens
from tests.draft_models import noisy
from tests.head_architectures import write_model
from tests.heads import write_qwen35
from tests.pairs import TINY, write_pair

GREEDY = SamplingParams(temperature=0.0)
PROMPTS = tuple(
    f"<|turn>user\n{text}<turn|>\n<|turn>model\n"
    for text in ("Count from 1 to 20.", "Tell me a story.", "Write a function that adds.")
)
KINDS = {
    "greedy": GREEDY,
    "seeded": SamplingParams(seed=5),
    "maximal": SamplingParams(seed=5, acceptance=AcceptanceRule.MAXIMAL),
    "few candidates": SamplingParams(seed=5, top_k=8),
    "many candidates": SamplingParams(seed=5, top_k=200),
    "every token": SamplingParams(seed=5, top_k=0),
    "penalties": SamplingParams(seed=5, repeat_penalty=1.3),
}


def loaded(mode: Switch, *, parallel: int = 1) -> Pair:
    files = resolve("nano")
    options = LoadOptions(
        threads=1, context=512, parallel=parallel, devices=DeviceOptions(sampling=mode)
    )
    return Pair.load(files.target, files.drafter, options)


@pytest.fixture(scope="module")
def host() -> Iterator[Pair]:
    with loaded(Switch.OFF, parallel=3) as pair:
        yield pair


@pytest.fixture(scope="module")
def device() -> Iterator[Pair]:
    with loaded(Switch.ON, parallel=3) as pair:
        yield pair


def requested(pair: Pair, text: str, sampling: SamplingParams, n_draft: int) -> GenerationRequest:
    return GenerationRequest(prompt_tokens(pair, text), sampling, n_draft=n_draft, max_tokens=24)


def alone(loop: DecodeLoop, request: GenerationRequest) -> list[int]:
    events = loop.run(request)
    return [p.token_id for e in events if isinstance(e, Generated) for p in e.pieces]


def together(loop: DecodeLoop, requests: list[GenerationRequest]) -> list[list[int]]:
    """Answers all requests at the same time."""
    answers = {loop.start(request): list[int]() for request in requests}
    while loop.active:
        for answer, event in loop.step():
            if isinstance(event, Generated):
                answers[answer].extend(piece.token_id for piece in event.pieces)
    return list(answers.values())


@pytest.mark.parametrize("n_draft", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_host(host: Pair, device: Pair, kind: str, n_draft: int) -> None:
    assert device.device_sampling
    assert device.device_sampling.kinds == ("greedy", "sampled")
    loops = host.decode_loop(), device.decode_loop()
    for text in PROMPTS[:2]:
        one, other = (
            alone(loop, requested(pair, text, KINDS[kind], n_draft))
            for loop, pair in zip(loops, (host, device), strict=True)
        )
        assert one == other
        assert len(one) > 6


def test_answers_of_every_kind_share_passes(host: Pair, device: Pair) -> None:
    kinds = ("greedy", "penalties", "seeded")
    for order in (kinds, kinds[::-1]):
        found = [
            together(
                pair.decode_loop(),
                [requested(pair, PROMPTS[i], KINDS[kind], 2) for i, kind in enumerate(order)],
            )
            for pair in (host, device)
        ]
        assert found[0] == found[1]


def test_logits_read_on_the_host_are_those_of_the_last_pass(device: Pair) -> None:
    """Also where the device chose before."""
    loop = device.decode_loop()
    prompt = prompt_tokens(device, PROMPTS[0])
    answer = alone(loop, requested(device, PROMPTS[0], GREEDY, 3))
    sequence = device.sequences[0]
    rows = [prefill(sequence, [*prompt, *answer[:at]])[0].argmax() for at in (0, 5)]
    assert rows == [answer[0], answer[5]]
    assert alone(loop, requested(device, PROMPTS[0], GREEDY, 3)) == answer


def test_a_loop_that_chooses_on_the_host_follows_one_that_does_not(device: Pair) -> None:
    request = requested(device, PROMPTS[0], GREEDY, 3)
    expected = alone(device.decode_loop(), request)
    on_host = DecodeLoop(device.target, device.sequences, device.drafter)
    for _ in device.sequences:
        assert alone(on_host, request) == expected


def test_suppressed_tokens_and_a_large_vocabulary(tmp_path: Path) -> None:
    """Most of the tokens of this vocabulary have no text; the host masks them."""
    target, drafter = tmp_path / "target.gguf", tmp_path / "mtp.gguf"
    write_pair(replace(TINY["dense"], vocab=65536), target, drafter)
    prompt = [2, *np.random.default_rng(0).integers(300, 60000, 20).tolist()]
    found = []
    for mode in (Switch.OFF, Switch.ON):
        options = LoadOptions(threads=1, context=256, devices=DeviceOptions(sampling=mode))
        with Pair.load(target, drafter, options) as pair:
            loop = pair.decode_loop()
            found.append(
                [
                    alone(loop, GenerationRequest(prompt, sampling, n_draft=2, max_tokens=12))
                    for sampling in (GREEDY, KINDS["seeded"])
                ]
            )
    assert found[0] == found[1]


def test_processors_choose_on_the_host() -> None:
    files = resolve("nano")
    options = LoadOptions(threads=1, context=256, gpu_layers=0)
    with Pair.load(files.target, files.drafter, options) as pair:
        assert pair.device_sampling is None


OTHERS = ("head", "masked head", "head of a recurrent target", "draft model", "smaller vocabulary")


def other_pair(kind: str, folder: Path) -> tuple[Path, Path]:
    """Writes a target with a drafter that is no assistant."""
    if kind == "draft model":
        return resolve("nano").target, noisy(folder / "draft.gguf")
    path, draft = folder / "target.gguf", folder / "draft.gguf"
    if kind == "head of a recurrent target":
        write_qwen35(path)
    elif kind == "smaller vocabulary":
        write_pair(replace(TINY["dense"], vocab=2048), path, folder / "mtp.gguf")
        write_pair(replace(TINY["dense"], vocab=2000), draft, folder / "mtp2.gguf")
        return path, draft
    else:
        write_model(path, "glm4moe" if kind == "head" else "qwen3next")
    return path, path


@pytest.mark.parametrize("kind", OTHERS)
def test_heads_and_draft_models_draft_on_the_device(kind: str, tmp_path: Path) -> None:
    files, found = other_pair(kind, tmp_path), []
    kinds = GREEDY, KINDS["seeded"], KINDS["maximal"], KINDS["penalties"]
    for mode in (Switch.OFF, Switch.ON):
        options = LoadOptions(
            threads=1, context=256, parallel=2, devices=DeviceOptions(sampling=mode)
        )
        with Pair.load(*files, options) as pair:
            assert pair.device_sampling is None or pair.drafter
            prompts = [
                [pair.target.vocab.size - 1 - i for i in range(at, at + 20)] for at in (60, 90)
            ]
            requests = [
                GenerationRequest(prompt, sampling, n_draft=3, max_tokens=16)
                for sampling in kinds
                for prompt in prompts
            ]
            loop = pair.decode_loop()
            found.append(
                [alone(loop, request) for request in requests]
                + [ids for at in (0, 1) for ids in together(loop, requests[at : at + 3 : 2])]
            )
    assert found[0] == found[1]
    assert sum(map(len, found[0])) > 60


def test_measuring_leaves_the_answers_of_every_kind_of_drafter(tmp_path: Path) -> None:
    for kind in OTHERS:
        folder = tmp_path / kind
        folder.mkdir()
        options = LoadOptions(threads=1, context=256, devices=DeviceOptions(sampling=Switch.OFF))
        with Pair.load(*other_pair(kind, folder), options) as pair:
            request = GenerationRequest([*range(60, 80)], GREEDY, n_draft=3, max_tokens=12)
            expected = alone(pair.decode_loop(), request)
            pair.sequences[0].clear()
            found = DeviceSampling(pair.target, pair.drafter, Switch.AUTO)
            found.measure(pair.sequences[0], pair.drafter)
            assert found.measured
            assert alone(pair.decode_loop(), request) == expected
