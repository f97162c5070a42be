"""Estimated memory against libllama's figures, for every size and shape."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from localmtp.bench.synthetic.files import synthetic_files
from localmtp.engine.kv_type import KVType
from localmtp.engine.load_options import LoadOptions
from localmtp.engine.recurrent import draft_limit
from localmtp.limits import BATCH_ROWS
from localmtp.models import resolve
from localmtp.models.gguf_header import read_header
from localmtp.models.memory.available import memory_by_part
from localmtp.models.memory.estimate import Weights, estimate_memory
from localmtp.models.memory.placement import MemoryBudget, largest_context
from localmtp.models.memory.shape import ModelShape, shape_of
from localmtp.models.naming.registry import entries
from tests.head_architectures import write_model
from tests.pairs import REAL, TINY, write_pair

ROOT = Path(__file__).parents[2]
MB = 1 << 20


def reported(target: Path, *tried: LoadOptions | str) -> list[tuple[float, float, float]]:
    """Returns the bytes of weights, KV cache and buffers that libllama would allocate."""
    words = [
        each
        if isinstance(each, str)
        else f"{each.context}:{each.kv_type or KVType.F16}:{each.batch or BATCH_ROWS}"
        for each in tried
    ]
    command = [sys.executable, "-m", "tests.models.buffers", str(target), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return [(row[0], row[1] * MB, row[2] * MB) for row in json.loads(done.stdout)]


@pytest.mark.parametrize("name", REAL)
def test_the_memory_of_every_size_is_estimated(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_pair(REAL[name], target, tmp_path / "mtp.gguf", hollow=True)
    shape = shape_of(read_header(target))
    tried = [LoadOptions(context=context) for context in (512, 4096, 32768, 131072)]
    tried += [LoadOptions(context=8192, kv_type=KVType.Q8_0, batch=batch) for batch in (None, 128)]
    for options, row in zip(tried, reported(target, *tried), strict=True):
        weights, kv_cache, working = row
        predicted = estimate_memory(shape, Weights(target.stat().st_size), options)
        assert predicted.weights == pytest.approx(weights, rel=0.01)
        assert predicted.kv_cache == pytest.approx(kv_cache, rel=0.01)
        assert predicted.buffers == pytest.approx(working, rel=0.1)


@pytest.mark.parametrize("name", TINY)
def test_the_kv_cache_of_every_shape_is_estimated(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_pair(TINY[name], target, tmp_path / "mtp.gguf")
    ((_, kv_cache, _),) = reported(target, LoadOptions(context=32768))
    shape = shape_of(read_header(target))
    assert estimate_memory(shape, Weights(0), LoadOptions(context=32768)).kv_cache == pytest.approx(
        kv_cache, rel=0.01
    )


@pytest.mark.parametrize("name", REAL)
def test_registry_shapes_match_the_files(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_pair(REAL[name], target, tmp_path / "mtp.gguf", hollow=True)
    listed = entries()[name].shape
    assert listed is not None
    measured = shape_of(read_header(target))
    # The shares depend on the vocabulary, which is small here.
    listed = replace(listed, read=measured.read, read_more=measured.read_more)
    listed = replace(listed, experts=measured.experts)
    assert listed == measured


HYBRID = ("qwen3.5-0.8b", "qwen3.5-27b", "qwen3.5-35b-a3b")


@pytest.mark.parametrize("name", HYBRID)
def test_recurrent_states_and_the_mtp_head_are_estimated(name: str, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    [file] = synthetic_files(name, "Q4_K_M")
    file.outline(target)
    header = read_header(target)
    shape = shape_of(header)
    kept = draft_limit(shape.state)
    rows = (f"8192:f16:512:{kept}:1", f"32768:f16:512:{kept}:4", "8192:f16:512:0:1:head")
    (weights, cache, working), (_, four, _), (_, head_cache, head_working) = reported(target, *rows)
    one = estimate_memory(shape, Weights(target.stat().st_size), LoadOptions(context=8192))
    assert one.weights == pytest.approx(weights, rel=0.03)  # the vocabulary
    assert one.kv_cache == pytest.approx(cache, rel=0.01)
    assert one.buffers == pytest.approx(working, rel=0.1)
    assert one.drafter == pytest.approx(head_cache + head_working, rel=0.2)
    measured = weights + cache + working + head_cache + head_working
    predicted = one.weights + one.kv_cache + one.buffers + one.drafter
    assert predicted == pytest.approx(measured, rel=0.1)
    together = LoadOptions(context=8192, parallel=4)
    estimate = estimate_memory(shape, Weights(target.stat().st_size), together)
    assert estimate.kv_cache == pytest.approx(four, rel=0.01)
    assert entry_shape(name) == replace(shape, read=0.0, read_more=0.0, experts=0.0, head_read=0.0)


@pytest.mark.parametrize(("name", "heads"), [("glm4moe", 1), ("hy_v3", 3)])
def test_the_contexts_of_mtp_heads_are_estimated(name: str, heads: int, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    write_model(target, name, heads=heads)
    shape = shape_of(read_header(target))
    ((_, head_cache, head_working),) = reported(target, "4096:f16:4:0:1:head")
    options = LoadOptions(context=4096, batch=4)  # so that the KV cache is most of it
    estimate = estimate_memory(shape, Weights(target.stat().st_size), options)
    assert estimate.drafter == pytest.approx(heads * (head_cache + head_working), rel=0.2)


def test_only_heads_that_run_are_counted(tmp_path: Path) -> None:
    """libllama runs one head of most architectures; others, and `--drafter none`, run none."""
    one, several = tmp_path / "one.gguf", tmp_path / "several.gguf"
    write_model(one, "glm4moe", heads=1)
    write_model(several, "glm4moe", heads=3)
    options = LoadOptions(context=4096, threads=1)
    assert memory_by_part(resolve(str(one)), options)["drafter"] > 0
    assert memory_by_part(resolve(str(several)), options)["drafter"] == 0
    assert memory_by_part(resolve(str(one), drafter="none"), options)["drafter"] == 0


def test_heads_in_a_file_of_their_own_are_counted(tmp_path: Path) -> None:
    target, whole, alone = (tmp_path / f"{name}.gguf" for name in ("target", "whole", "alone"))
    write_model(target, "hy_v3", head=False)
    write_model(whole, "hy_v3", heads=3)
    write_model(alone, "hy_v3", trunk=False, heads=3)
    contexts = [LoadOptions(context=context, batch=4) for context in (4096, 8192)]
    separate, together = (
        [memory_by_part(files, options)["drafter"] for options in contexts]
        for files in (resolve(str(target), drafter=str(alone)), resolve(str(whole)))
    )
    assert separate[1] - separate[0] == together[1] - together[0] > 0


def entry_shape(name: str) -> ModelShape:
    """The shape in the registry, without shares that depend on the quantization."""
    shape = entries()[name].shape
    assert shape is not None
    return replace(shape, read=0.0, read_more=0.0, experts=0.0, head_read=0.0)


def test_less_memory_means_a_smaller_context_and_finally_none() -> None:
    entry = entries()["gemma4-e4b"]
    quant = entry.quants[0]
    assert entry.shape is not None
    fitting = [
        largest_context(
            entry.shape,
            Weights(quant.nbytes, quant.drafter_nbytes),
            entry.context,
            MemoryBudget(gigabytes * 10**9),
        )
        for gigabytes in (16, 7, 6, 5)
    ]
    assert fitting[0] == entry.context
    assert fitting == sorted(fitting, reverse=True)
    assert fitting[-1] == 0
