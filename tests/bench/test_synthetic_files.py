"""Synthetic files have the size of the published ones, except for their tokenizers."""

import pytest

from localmtp.bench.synthetic.files import synthetic_files

TOKENIZER = 16e6
"""Bytes of Gemma 4's vocabulary, merges and chat template."""

PUBLISHED = {
    # Name, quantization: bytes of the target's file and of its drafter's, as listed on the hub.
    ("gemma4-e2b", "Q8_0"): (4_967_497_152, 97_817_696),
    ("gemma4-e4b", "Q4_K_M"): (5_335_289_824, 98_653_280),
    ("gemma4-12b", "Q4_0"): (6_975_879_296, 253_708_960),
    ("gemma4-31b", "Q4_0"): (17_650_000_000, 280_000_000),
}

TENSORS = {"gemma4-e2b": 541, "gemma4-e4b": 666, "gemma4-12b": 667, "gemma4-31b": 833}
"""As libllama counts them in the published files, minus the unused keys and values of E2B's and
E4B's shared layers."""


@pytest.mark.parametrize(("model", "quant"), PUBLISHED)
def test_files_are_as_large_as_the_published_ones(model: str, quant: str) -> None:
    target, drafter = synthetic_files(model, quant)
    assert len(target.tensors) == TENSORS[model]
    assert len(drafter.tensors) == 49
    for file, published in zip((target, drafter), PUBLISHED[model, quant], strict=True):
        assert file.nbytes == pytest.approx(published - TOKENIZER, rel=0.01)


def test_experts_are_counted() -> None:
    target, _ = synthetic_files("gemma4-26b-a4b", "Q4_0")
    assert len(target.tensors) == 658
    assert target.nbytes == pytest.approx(14.4e9, rel=0.01)


@pytest.mark.parametrize(
    ("model", "quant", "tensors", "published"),
    [
        # libllama's own mixture differs a little from the publisher's.
        ("qwen3.5-4b", "Q4_K_M", 441, 2_834_975_040),
        ("qwen3.5-9b", "Q4_K_M", 442, 5_868_826_976),
    ],
)
def test_a_model_with_its_head_is_one_file(
    model: str, quant: str, tensors: int, published: int
) -> None:
    [file] = synthetic_files(model, quant)
    assert len(file.tensors) == tensors
    assert file.nbytes == pytest.approx(published - TOKENIZER, rel=0.02)
