"""Placement of registry models on described machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmtp.engine.device_options import DeviceOptions
from localmtp.engine.kv_type import KVType
from localmtp.engine.llama.ggml import Device
from localmtp.engine.load_options import LoadOptions
from localmtp.errors import LocalmtpError
from localmtp.models.memory.available import budget_of, projector_fits_gpu
from localmtp.models.memory.estimate import Weights, estimate_memory
from localmtp.models.memory.placement import MemoryBudget, Placement, divided, division, place
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
    weights = Weights(quant.nbytes, quant.drafter_nbytes)
    weights = weights.spread_over(entry.shape.layers, entry.shape.experts)
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


def test_experts_leave_a_small_gpu_before_layers_do() -> None:
    chosen = placed("gemma4-26b-a4b", MemoryBudget(PLENTY, 12 * GB, 1))
    assert (chosen.options.gpu_layers, chosen.context) == (31, 8192)
    kept = chosen.options.devices.cpu_moe
    assert kept
    assert f"31 of 31 layers on the GPU, experts of {kept} layers in main memory" in chosen.summary
    assert "of 12.0 GB on the GPU; all on the GPU would take 14.8 GB there" in chosen.summary
    fewer = placed("gemma4-26b-a4b", MemoryBudget(PLENTY, 8 * GB, 1)).options
    assert fewer.gpu_layers == 31
    assert (fewer.devices.cpu_moe or 0) > kept
    smallest = placed("gemma4-26b-a4b", MemoryBudget(PLENTY, 2 * GB, 1)).options
    assert smallest.devices.cpu_moe == 30
    assert 0 < (smallest.gpu_layers or 0) < 31


def test_given_experts_are_not_changed() -> None:
    requested = LoadOptions(devices=DeviceOptions(cpu_moe=30))
    chosen = placed("gemma4-26b-a4b", MemoryBudget(PLENTY, 40 * GB, 1), requested)
    assert chosen.options.devices.cpu_moe == 30
    assert chosen.options.gpu_layers == 31
    with pytest.raises(LocalmtpError, match=r"needs 14\.\d GB on the GPU for 31 of 31") as caught:
        placed(
            "gemma4-26b-a4b",
            MemoryBudget(PLENTY, 12 * GB, 1),
            LoadOptions(gpu_layers=31, devices=DeviceOptions(cpu_moe=0)),
        )
    assert caught.value.hint == "this fits: --ctx 8192 --gpu-layers 31 --n-cpu-moe 8"


def test_a_division_given_up_is_named_and_not_the_context() -> None:
    summary = placed("gemma4-31b", MemoryBudget(PLENTY, 8 * GB, 1)).summary
    assert "24 of 61 layers on the GPU" in summary
    assert summary.endswith("8.0 GB of 8.0 GB on the GPU; all on the GPU would take 20.1 GB there")


def test_every_gpu_of_several_holds_its_share() -> None:
    gpus = [Device("CUDA0", "", 24 << 30, 24 << 30), Device("CUDA1", "", 8 << 30, 8 << 30)]
    by_memory = budget_of(PLENTY, gpus)
    assert (by_memory.each, by_memory.shares) == ((23 << 30, 7 << 30), (24 << 30, 8 << 30))
    assert placed("gemma4-31b", by_memory).options.gpu_layers == 61
    even = budget_of(PLENTY, gpus, (1.0, 1.0))
    assert (placed("gemma4-31b", even).options.gpu_layers or 0) < 61
    estimate = estimate_memory(*described("gemma4-31b")[1:], loaded(8192, gpu_layers=61))
    first, second = divided(estimate, (3.0, 1.0))
    assert 2 < first / second < 3.5
    assert first + second == pytest.approx(estimate.gpu + estimate.buffers, rel=0.01)


def test_a_kv_cache_in_main_memory_takes_none_of_the_gpu() -> None:
    there = needed("gemma4-12b", loaded(8192, gpu_layers=49))
    devices = DeviceOptions(kv_offload=False)
    here = needed("gemma4-12b", replace(loaded(8192, gpu_layers=49), devices=devices))
    assert sum(here) == sum(there)
    assert here[1] < there[1]


def test_the_drafter_goes_where_the_cache_is_that_it_reads() -> None:
    _, shape, weights = described("gemma4-e2b")
    for layers, on_gpu in ((1, False), (22, False), (23, True), (36, True)):
        estimate = estimate_memory(shape, weights, loaded(8192, gpu_layers=layers))
        assert (estimate.drafter_part >= 0) is on_gpu


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


def test_a_mac_is_limited_by_its_working_set_and_by_its_memory() -> None:
    # 24 GB of memory, of which Metal recommends 17.2 GB for the GPU.
    metal = Device("MTL0", "Apple M4", 17_200_000_000, 17_200_000_000, unified=True)
    chosen = placed("gemma4-26b-a4b", budget_of(19 * GB, [metal]))
    assert chosen.options.gpu_layers == 31
    assert chosen.options.devices.cpu_moe is None
    # Beyond the working set, experts are computed by the processor, from the same memory.
    small = replace(metal, free=13_000_000_000)
    divided_up = placed("gemma4-26b-a4b", budget_of(19 * GB, [small]))
    assert divided_up.options.gpu_layers == 31
    assert divided_up.options.devices.cpu_moe
    assert "on the GPU; all" not in divided_up.summary.partition("; ")[0]
    # Memory that other programs take counts, whatever Metal reports.
    with pytest.raises(LocalmtpError, match=r"14\.0 GB can be used"):
        placed("gemma4-26b-a4b", budget_of(14 * GB, [metal]))


def test_the_division_of_a_listed_model_is_described() -> None:
    entry = entries()["gemma4-26b-a4b"]
    assert entry.shape
    told = [
        division(entry.shape, entry.quants[0].sizes, entry.context, budget)
        for budget in (
            MemoryBudget(PLENTY, 24 * GB, 1),
            MemoryBudget(PLENTY, 12 * GB, 1),
            MemoryBudget(PLENTY),
            MemoryBudget(GB),
        )
    ]
    assert told[0] == "31 of 31 layers on the GPU"
    assert told[1].startswith("31 of 31 layers on the GPU, experts of ")
    assert told[2:] == ["", ""]


def test_full_gpus_receive_nothing() -> None:
    gpus = [Device("CUDA0", "", 24 << 30, 24 << 30), Device("CUDA1", "", 1 << 29, 8 << 30)]
    budget = budget_of(PLENTY, gpus)
    assert (budget.gpus, budget.each) == (1, ())
    given = budget_of(PLENTY, gpus, (1.0, 1.0))
    assert given.each == (23 << 30, 0)


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


def test_a_projector_takes_main_memory_until_it_is_turned_off() -> None:
    entry, shape, weights = described("gemma4-12b")
    heard = replace(weights, projector=GB)
    less = loaded(8192)
    extra = estimate_memory(shape, heard, less).main - estimate_memory(shape, weights, less).main
    assert extra > GB
    large = replace(less, image_tokens=1120)
    assert estimate_memory(shape, heard, large).main - estimate_memory(shape, heard, less).main > 0
    none = MemoryBudget(estimate_memory(shape, weights, loaded(2048, KVType.Q8_0, 128)).main)
    with pytest.raises(LocalmtpError) as refused:
        place("a", shape, heard, entry.context, none, CHOOSE)
    assert refused.value.hint == "it fits without images and sound: --no-media --ctx 2048"


def test_a_projector_goes_to_a_gpu_with_room(tmp_path: Path) -> None:
    file = tmp_path / "mmproj.gguf"
    file.write_bytes(bytes(1000))

    def gpu(free: int, name: str = "CUDA0") -> Device:
        return Device(name, "A GPU", free, 24 * GB)

    assert projector_fits_gpu(file, 280, [gpu(2 * GB)])
    assert not projector_fits_gpu(file, 280, [gpu(GB // 2)])
    assert not projector_fits_gpu(file, 280, [])
    assert not projector_fits_gpu(file, 4096, [gpu(2 * GB)])


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
