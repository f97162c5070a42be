"""How pairs of the registry are put on machines that are only described."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmtp.engine.kv_type import KVType
from localmtp.engine.llama.ggml import Device
from localmtp.engine.pair import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.models.memory.available import room_with
from localmtp.models.memory.estimate import Load, Weights, need
from localmtp.models.memory.placement import Placement, Room, place
from localmtp.models.memory.shape import Shape
from localmtp.models.naming.registry import Entry, entries

GB = 10**9
PLENTY = 64 * GB
CHOOSE = LoadOptions()


def described(name: str) -> tuple[Entry, Shape, Weights]:
    entry = entries()[name]
    assert entry.shape is not None
    quant = entry.quants[0]
    weights = Weights(quant.nbytes, quant.drafter_nbytes).spread_over(entry.shape.layers)
    return entry, entry.shape, weights


def placed(name: str, room: Room, asked: LoadOptions = CHOOSE) -> Placement:
    entry, shape, weights = described(name)
    return place(name, shape, weights, entry.context, room, asked)


def needed(name: str, load: Load) -> tuple[int, int]:
    """Bytes in main memory and on GPUs."""
    _, shape, weights = described(name)
    memory = need(shape, weights, load)
    return memory.main, memory.gpu


def test_a_large_gpu_takes_everything_and_a_long_context() -> None:
    chosen = placed("gemma4-12b", Room(PLENTY, 40 * GB, 1))
    assert chosen.load == Load(32768, gpu_layers=49)
    assert "49 of 49 layers on the GPU" in chosen.words


def test_without_gpus_all_is_in_main_memory() -> None:
    chosen = placed("gemma4-12b", Room(12 * GB))
    assert (chosen.load.gpu_layers, chosen.load.kv_type) == (0, KVType.F16)
    assert "GPU" not in chosen.words
    assert needed("gemma4-12b", chosen.load)[1] == 0


def test_what_is_missed_least_is_given_up_first() -> None:
    for best in (
        Load(8192, gpu_layers=61),
        Load(8192, batch=128, gpu_layers=61),
        Load(8192, KVType.Q8_0, gpu_layers=61),
        Load(8192, KVType.Q8_0, 128, gpu_layers=61),
        Load(4096, KVType.Q8_0, 128, gpu_layers=61),
    ):
        chosen = placed("gemma4-31b", Room(PLENTY, needed("gemma4-31b", best)[1], 1))
        assert chosen.load == best
        saves = best.batch < 512 or best.kv_type is not KVType.F16
        assert ("without savings would take" in chosen.words) is saves


def test_less_gpu_memory_means_fewer_layers_on_it() -> None:
    layers = [
        placed("gemma4-31b", Room(PLENTY, gpu * GB, 1)).load.gpu_layers for gpu in (16, 12, 8, 4)
    ]
    assert layers == sorted(layers, reverse=True)
    assert 0 < layers[-1] < layers[0] < 61
    assert placed("gemma4-31b", Room(PLENTY, GB // 4, 1)).load.gpu_layers == 0


def test_every_gpu_has_buffers_of_its_own() -> None:
    gpu = needed("gemma4-12b", Load(8192, gpu_layers=49))[1]
    assert placed("gemma4-12b", Room(PLENTY, gpu, 1)).load.batch == 512
    assert placed("gemma4-12b", Room(PLENTY, gpu, 2)).load.batch < 512


def test_unified_memory_is_counted_once() -> None:
    with pytest.raises(LocalmtpError, match=r"9\.0 GB can be used"):
        placed("gemma4-26b-a4b", Room(9 * GB, 9 * GB, 1, unified=True))
    assert placed("gemma4-12b", Room(12 * GB, 12 * GB, 1, unified=True)).load.gpu_layers == 49


def test_another_machine_adds_to_unified_memory() -> None:
    alone = Room(16 * GB, 12 * GB, 1, unified=True)
    with pytest.raises(LocalmtpError, match=r"16\.0 GB can be used"):
        placed("gemma4-31b", alone)
    helped = Room(16 * GB, 36 * GB, 2, unified=True, remote=24 * GB)
    assert placed("gemma4-31b", helped).load.gpu_layers > 50


def test_flags_override_and_what_would_fit_is_said() -> None:
    room = Room(PLENTY, 14 * GB, 1)
    asked = LoadOptions(context=5000, gpu_layers=3, kv_type=KVType.Q8_0, batch=64)
    assert placed("gemma4-31b", room, asked).load == Load(5000, KVType.Q8_0, 64, 3)
    with pytest.raises(LocalmtpError) as caught:
        placed("gemma4-31b", room, LoadOptions(gpu_layers=60))
    flags = caught.value.hint.removeprefix("this fits: ").split()
    instead = LoadOptions(context=int(flags[1]), gpu_layers=int(flags[3]))
    assert placed("gemma4-31b", room, instead).load.gpu_layers == instead.gpu_layers


def test_a_context_that_is_too_long_brings_the_longest_that_fits() -> None:
    room = Room(24 * GB)
    with pytest.raises(LocalmtpError, match="with a context of 262144") as caught:
        placed("gemma4-31b", room, LoadOptions(context=262144))
    longest = int(caught.value.hint.removeprefix("this fits: --ctx "))
    assert 8192 < longest < 262144
    assert placed("gemma4-31b", room, LoadOptions(context=longest)).load.kv_type is KVType.F16


def test_a_drafter_without_room_is_named_not_dropped() -> None:
    entry, shape, weights = described("gemma4-31b")
    alone = need(shape, Weights(weights.target), Load(2048, KVType.Q8_0, 128)).main
    with pytest.raises(LocalmtpError) as caught:
        place("it", shape, weights, entry.context, Room(alone), CHOOSE)
    assert caught.value.hint == "it fits without its drafter: --drafter none --ctx 2048"


def test_a_gigabyte_of_every_gpu_is_left_alone() -> None:
    gpus = [Device("CUDA0", "", 24 << 30, 24 << 30), Device("CUDA1", "", 1 << 29, 8 << 30)]
    assert room_with(5 * GB, gpus) == Room(5 * GB, 23 << 30, 1)
    metal = Device("MTL0", "", 12 << 30, 16 << 30, unified=True)
    assert room_with(8 * GB, [metal]) == Room(8 * GB, 11 << 30, 1, unified=True)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(entries())),
    st.integers(1, 40 * GB),
    st.integers(0, 40 * GB),
    st.integers(1, 3),
)
def test_whatever_the_machine_nothing_is_chosen_that_does_not_fit(
    name: str, main: int, gpu: int, gpus: int
) -> None:
    room = Room(main, gpu, gpus if gpu else 0)
    try:
        load = placed(name, room).load
    except LocalmtpError as refused:
        assert needed(name, Load(2048, KVType.Q8_0, 128))[0] > main
        assert refused.hint
    else:
        in_main, on_gpus = needed(name, load)
        assert in_main <= main
        assert on_gpus <= gpu
        assert load.context >= 2048
