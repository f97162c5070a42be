"""Placement of registry models on described machines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmtp.engine.kv_type import KVType
from localmtp.engine.llama.ggml import Device
from localmtp.engine.load_options import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.models.memory.available import budget_of
from localmtp.models.memory.estimate import Weights, estimate_memory
from localmtp.models.memory.placement import MemoryBudget, Placement, place
from localmtp.models.memory.shape import ModelShape
from localmtp.models.naming.registry import RegistryEntry, entries

GB = 10**9
PLENTY = 64 * GB
CHOOSE = LoadOptions()


def loaded(
    context: int, kv_type: KVType = KVType.F16, batch: int = 512, gpu_layers: int = 0
) -> LoadOptions:
    return LoadOptions(context=context, kv_type=kv_type, batch=batch, gpu_layers=gpu_layers)


def described(name: str) -> tuple[RegistryEntry, ModelShape, Weights]:
    entry = entries()[name]
    assert entry.shape is not None
    quant = entry.quants[0]
    weights = Weights(quant.nbytes, quant.drafter_nbytes).spread_over(entry.shape.layers)
    return entry, entry.shape, weights


def placed(name: str, budget: MemoryBudget, requested: LoadOptions = CHOOSE) -> Placement:
    entry, shape, weights = described(name)
    return place(name, shape, weights, entry.context, budget, requested)


def offloaded(name: str, budget: MemoryBudget) -> int:
    """Layers on the GPU."""
    return placed(name, budget).options.gpu_layers or 0


def needed(name: str, options: LoadOptions) -> tuple[int, int]:
    """Bytes in main memory and on GPUs."""
    _, shape, weights = described(name)
    memory = estimate_memory(shape, weights, options)
    return memory.main, memory.gpu


def test_a_large_gpu_gets_all_layers_and_a_long_context() -> None:
    chosen = placed("gemma4-12b", MemoryBudget(PLENTY, 40 * GB, 1))
    assert chosen.options == loaded(32768, gpu_layers=49)
    assert "49 of 49 layers on the GPU" in chosen.summary


def test_without_a_gpu_all_layers_are_in_main_memory() -> None:
    chosen = placed("gemma4-12b", MemoryBudget(12 * GB))
    assert (chosen.options.gpu_layers, chosen.options.kv_type) == (0, KVType.F16)
    assert "GPU" not in chosen.summary
    assert needed("gemma4-12b", chosen.options)[1] == 0


def test_savings_are_made_in_order() -> None:
    for best in (
        loaded(8192, gpu_layers=61),
        loaded(8192, batch=128, gpu_layers=61),
        loaded(8192, KVType.Q8_0, gpu_layers=61),
        loaded(8192, KVType.Q8_0, 128, gpu_layers=61),
        loaded(4096, KVType.Q8_0, 128, gpu_layers=61),
    ):
        chosen = placed("gemma4-31b", MemoryBudget(PLENTY, needed("gemma4-31b", best)[1], 1))
        assert chosen.options == best
        saves = best.batch == 128 or best.kv_type is not KVType.F16
        assert ("without savings would take" in chosen.summary) is saves


def test_less_gpu_memory_means_fewer_layers_on_it() -> None:
    layers = [offloaded("gemma4-31b", MemoryBudget(PLENTY, gpu * GB, 1)) for gpu in (16, 12, 8, 4)]
    assert layers == sorted(layers, reverse=True)
    assert 0 < layers[-1] < layers[0] < 61
    assert offloaded("gemma4-31b", MemoryBudget(PLENTY, GB // 4, 1)) == 0


def test_every_gpu_has_its_own_buffers() -> None:
    gpu = needed("gemma4-12b", loaded(8192, gpu_layers=49))[1]
    assert placed("gemma4-12b", MemoryBudget(PLENTY, gpu, 1)).options.batch == 512
    assert placed("gemma4-12b", MemoryBudget(PLENTY, gpu, 2)).options.batch == 128


def test_unified_memory_is_counted_once() -> None:
    with pytest.raises(LocalmtpError, match=r"9\.0 GB can be used"):
        placed("gemma4-26b-a4b", MemoryBudget(9 * GB, 9 * GB, 1, unified=True))
    assert (
        placed("gemma4-12b", MemoryBudget(12 * GB, 12 * GB, 1, unified=True)).options.gpu_layers
        == 49
    )


def test_another_machine_adds_to_unified_memory() -> None:
    alone = MemoryBudget(16 * GB, 12 * GB, 1, unified=True)
    with pytest.raises(LocalmtpError, match=r"16\.0 GB can be used"):
        placed("gemma4-31b", alone)
    helped = MemoryBudget(16 * GB, 36 * GB, 2, unified=True, remote=24 * GB)
    assert offloaded("gemma4-31b", helped) > 50


def test_flags_are_not_changed_and_the_hint_names_what_fits() -> None:
    budget = MemoryBudget(PLENTY, 14 * GB, 1)
    requested = LoadOptions(context=5000, gpu_layers=3, kv_type=KVType.Q8_0, batch=64)
    assert placed("gemma4-31b", budget, requested).options == loaded(5000, KVType.Q8_0, 64, 3)
    with pytest.raises(LocalmtpError) as caught:
        placed("gemma4-31b", budget, LoadOptions(gpu_layers=60))
    flags = caught.value.hint.removeprefix("this fits: ").split()
    instead = LoadOptions(context=int(flags[1]), gpu_layers=int(flags[3]))
    assert placed("gemma4-31b", budget, instead).options.gpu_layers == instead.gpu_layers


def test_the_hint_for_a_long_context_is_the_longest_that_fits() -> None:
    budget = MemoryBudget(24 * GB)
    with pytest.raises(LocalmtpError, match="with a context of 262144") as caught:
        placed("gemma4-31b", budget, LoadOptions(context=262144))
    longest = int(caught.value.hint.removeprefix("this fits: --ctx "))
    assert 8192 < longest < 262144
    assert placed("gemma4-31b", budget, LoadOptions(context=longest)).options.kv_type is KVType.F16


def test_a_drafter_that_does_not_fit_is_not_dropped() -> None:
    entry, shape, weights = described("gemma4-31b")
    alone = estimate_memory(shape, Weights(weights.target), loaded(2048, KVType.Q8_0, 128)).main
    with pytest.raises(LocalmtpError) as caught:
        place("it", shape, weights, entry.context, MemoryBudget(alone), CHOOSE)
    assert caught.value.hint == "it fits without its drafter: --drafter none --ctx 2048"


def test_a_gigabyte_of_every_gpu_is_left_free() -> None:
    gpus = [Device("CUDA0", "", 24 << 30, 24 << 30), Device("CUDA1", "", 1 << 29, 8 << 30)]
    assert budget_of(5 * GB, gpus) == MemoryBudget(5 * GB, 23 << 30, 1)
    metal = Device("MTL0", "", 12 << 30, 16 << 30, unified=True)
    assert budget_of(8 * GB, [metal]) == MemoryBudget(8 * GB, 11 << 30, 1, unified=True)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(entries())),
    st.integers(1, 40 * GB),
    st.integers(0, 40 * GB),
    st.integers(1, 3),
)
def test_every_placement_fits_its_machine(name: str, main: int, gpu: int, gpus: int) -> None:
    budget = MemoryBudget(main, gpu, gpus if gpu else 0)
    try:
        chosen = placed(name, budget)
    except LocalmtpError as refused:
        assert needed(name, loaded(2048, KVType.Q8_0, 128))[0] > main
        assert refused.hint
    else:
        in_main, on_gpus = needed(name, chosen.options)
        assert in_main <= main
        assert on_gpus <= gpu
        assert chosen.context >= 2048
