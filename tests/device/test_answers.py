"""Greedy answers on a device equal the processor's, up to near-ties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from localmtp.engine.decoding.generation import Generation, GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.device_options import DeviceOptions, Switch
from localmtp.engine.events import Generated
from localmtp.engine.kv_type import KVType
from localmtp.engine.llama.ggml import devices
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.models import resolve
from localmtp.session.prompts import prompt_tokens

pytestmark = pytest.mark.device

GREEDY = SamplingParams(temperature=0.0)
PROMPTS = tuple(
    f"<|turn>user\n{text}<turn|>\n<|turn>model\n"
    for text in ("Count from 1 to 20.", "Tell me a story.", "Write a function that adds.")
)
ROUNDING = 0.6
"""Logits closer than this may be exchanged by a device's arithmetic."""

PLACEMENTS = {
    "all": LoadOptions(),
    "q8_0 cache": LoadOptions(kv_type=KVType.Q8_0),
    "output": LoadOptions(gpu_layers=1),
    "half": LoadOptions(gpu_layers=4),
    "cache in main memory": LoadOptions(devices=DeviceOptions(kv_offload=False)),
    "feed forward in main memory": LoadOptions(
        devices=DeviceOptions(overrides=((r"ffn_", "CPU"),))
    ),
    "without flash attention": LoadOptions(devices=DeviceOptions(flash_attn=Switch.OFF)),
    "chosen on the device": LoadOptions(devices=DeviceOptions(sampling=Switch.ON)),
}


def loaded(options: LoadOptions, *, parallel: int = 1) -> Pair:
    files = resolve("nano")
    return Pair.load(
        files.target,
        files.drafter,
        LoadOptions(
            context=512,
            threads=1,
            gpu_layers=options.gpu_layers,
            devices=options.devices,
            kv_type=options.kv_type,
            parallel=parallel,
        ),
    )


@pytest.fixture(scope="module")
def processors() -> Iterator[dict[KVType, Pair]]:
    """Pairs on the processor, by the type of their KV cache."""
    with ExitStack() as opened:
        yield {
            kv_type: opened.enter_context(loaded(LoadOptions(gpu_layers=0, kv_type=kv_type)))
            for kv_type in KVType
        }


def answer(pair: Pair, text: str, n_draft: int) -> list[int]:
    request = GenerationRequest(prompt_tokens(pair, text), GREEDY, n_draft=n_draft, max_tokens=24)
    events = pair.decode_loop().run(request)
    return [p.token_id for e in events if isinstance(e, Generated) for p in e.pieces]


def assert_same(processor: Pair, text: str, found: Sequence[int], expected: Sequence[int]) -> None:
    """Asserts that two answers are equal, or part where the processor's logits nearly tie."""
    at = next(
        (i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None
    )
    if at is None:
        assert len(found) == len(expected)
        return
    prompt = prompt_tokens(processor, text)
    row = prefill(processor.sequences[0], [*prompt, *expected[:at]])[0]
    assert row[expected[at]] - row[found[at]] < ROUNDING


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_placement_answers_as_the_processor_does(
    processors: dict[KVType, Pair], name: str
) -> None:
    processor = processors[PLACEMENTS[name].kv_type or KVType.F16]
    with loaded(PLACEMENTS[name]) as pair:
        assert pair.target.model.offload.devices
        for text in PROMPTS[:2]:
            for n_draft in (0, 3):
                found = answer(pair, text, n_draft)
                assert_same(processor, text, found, answer(processor, text, n_draft))


def test_several_answers_share_passes(processors: dict[KVType, Pair]) -> None:
    processor = processors[KVType.F16]
    with loaded(LoadOptions(), parallel=3) as pair:
        loop = pair.decode_loop()
        found = {
            loop.start(
                GenerationRequest(prompt_tokens(pair, text), GREEDY, n_draft=2, max_tokens=24)
            ): list[int]()
            for text in PROMPTS
        }
        _finish(loop, found)
    for text, ids in zip(PROMPTS, found.values(), strict=True):
        assert_same(processor, text, ids, answer(processor, text, 0))


def _finish(loop: DecodeLoop, found: dict[Generation, list[int]]) -> None:
    while loop.active:
        for one, event in loop.step():
            if isinstance(event, Generated):
                found[one].extend(piece.token_id for piece in event.pieces)


def test_no_layers_use_no_device() -> None:
    with loaded(LoadOptions(gpu_layers=0)) as pair:
        assert pair.target.model.offload.devices == ()
        assert not pair.target.model.fully_offloaded
        assert pair.device_sampling is None


def test_a_named_device_is_used() -> None:
    name = devices()[0].name
    with loaded(LoadOptions(devices=DeviceOptions(names=(name,)))) as pair:
        assert [device.name for device in pair.target.model.offload.devices] == [name]
        assert pair.target.model.fully_offloaded
