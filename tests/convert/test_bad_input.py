"""Invalid checkpoints and options are refused with a one-line error, and no file is left."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localmtp.convert import Options, convert
from localmtp.convert.output.gguf_file import require_disk_space
from localmtp.errors import LocalmtpError
from tests.convert.checkpoints import (
    model_tensors,
    write_checkpoint,
    write_json,
    write_safetensors,
)

WEIGHTS = "model.safetensors"
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text("utf-8")) | changes)


def edit_text(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= changes
    write_json(path, config)


def edit_header(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a safetensors header and leave the data unchanged."""
    data = (directory / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (directory / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def truncate(directory: Path, size: int) -> None:
    with (directory / WEIGHTS).open("r+b") as file:
        file.truncate(size)


def set_header(directory: Path, **changes: Any) -> None:
    """Change the header's entry of the final norm."""
    edit_header(directory, lambda header: header["model.norm.weight"].update(changes))


def to_pickle(directory: Path) -> None:
    (directory / WEIGHTS).rename(directory / "pytorch_model.bin")


def to_adapter(directory: Path) -> None:
    (directory / WEIGHTS).rename(directory / "adapter_model.safetensors")
    write_json(directory / "adapter_config.json", {"peft_type": "LORA"})


def with_weight(name: str, value: float) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        tensors = model_tensors("12B-assistant")
        tensors[name].flat[0] = value
        write_safetensors(directory / WEIGHTS, tensors, "BF16")

    return change


def drop_tokens(directory: Path) -> None:
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"].popitem()
    write_json(directory / "tokenizer.json", tokenizer)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda d: (d / "config.json").unlink(), "has no config.json"),
    "configuration not JSON": (lambda d: truncate_text(d / "config.json"), "not valid JSON"),
    "configuration a list": (lambda d: write_json(d / "config.json", []), "not a JSON object"),
    "no weights": (lambda d: (d / WEIGHTS).unlink(), r"has no model\*.safetensors"),
    "pickle": (to_pickle, "pickled"),
    "adapter": (to_adapter, "LoRA adapter"),
    "another architecture": (
        lambda d: edit_json(d / "config.json", architectures=["LlamaForCausalLM"]),
        "LlamaForCausalLM, which is not supported",
    ),
    "quantized": (
        lambda d: edit_json(d / "config.json", quantization_config={"quant_method": "fp8"}),
        r"already quantized \(fp8\)",
    ),
    "empty file": (lambda d: truncate(d, 0), "damaged"),
    "truncated in the header": (lambda d: truncate(d, 50), "damaged"),
    "truncated in the data": (lambda d: truncate(d, 50_000), "its tensors need"),
    "header too long": (
        lambda d: (d / WEIGHTS).write_bytes(b"\xff" * 8 + b"{}"),
        "its header claims",
    ),
    "header not JSON": (
        lambda d: (d / WEIGHTS).write_bytes((4).to_bytes(8, "little") + b"{{{{"),
        "header is not valid",
    ),
    "offsets past the end": (
        lambda d: set_header(d, data_offsets=[10**15, 10**15 + 256]),
        "its tensors need",
    ),
    "offsets that overlap": (lambda d: set_header(d, data_offsets=[0, 256]), "overlaps"),
    "offsets reversed": (lambda d: set_header(d, data_offsets=[256, 0]), "do not match"),
    "negative dimension": (lambda d: set_header(d, shape=[-1]), "has the shape"),
    "unknown data type": (lambda d: set_header(d, dtype="NEW8"), "unknown data type NEW8"),
    "FP8": (
        lambda d: set_header(d, dtype="F8_E4M3", shape=[256]),
        "model.norm.weight is F8_E4M3",
    ),
    "another shape": (lambda d: edit_text(d, hidden_size=64), "config.json requires"),
    "a missing tensor": (
        lambda d: edit_header(d, lambda header: header.pop("model.layers.2.mlp.up_proj.weight")),
        "has no tensor layers.2.mlp.up_proj.weight",
    ),
    "an unknown tensor": (
        lambda d: edit_header(d, lambda header: header.update({"lora_A": EMPTY})),
        "lora_A is not a tensor of Gemma4UnifiedAssistantForCausalLM",
    ),
    "not a number of heads": (lambda d: edit_text(d, num_attention_heads="4"), "num_attention"),
    "more experts used than there are": (
        lambda d: edit_text(d, top_k_experts=5),
        "invalid top_k_experts: 5",
    ),
    "experts without a number": (
        lambda d: edit_text(d, enable_moe_block=True, num_experts=None, top_k_experts=None),
        "invalid num_experts",
    ),
    "too many layers": (
        lambda d: edit_text(d, num_hidden_layers=10**9, layer_types=None),
        "invalid num_hidden_layers",
    ),
    "no rope": (lambda d: edit_text(d, rope_parameters=1), "invalid rope_parameters"),
    "temperature": (
        lambda d: edit_json(d / "generation_config.json", temperature=1e300),
        "invalid temperature: 1e\\+300",
    ),
    "bidirectional": (lambda d: edit_text(d, use_bidirectional_attention="all"), "bidirectional"),
    "NaN": (with_weight("model.norm.weight", np.nan), "NaN or infinity"),
    "infinity": (with_weight("pre_projection.weight", -np.inf), "NaN or infinity"),
    "too large for the type": (
        with_weight("pre_projection.weight", 1e6),
        "exceeds the range of half precision",
    ),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "no tokenizer.json"),
    "tokens missing": (drop_tokens, "has 383 tokens, the model's embedding has 384 rows"),
    "tokenizer malformed": (
        lambda d: write_json(d / "tokenizer.json", {"model": {"byte_fallback": True}}),
        "no usable vocabulary",
    ),
    "model card with deep YAML": (lambda d: write_card(d, "a: " + "[" * 5000), "32 levels deep"),
    "model card with aliases": (lambda d: write_card(d, "tags: &a [x]\nlanguage: *a"), "alias"),
    "model card with a list of lists": (lambda d: write_card(d, "license: [[x]]"), "license has"),
    "model card with a lone surrogate": (lambda d: write_card(d, 'name: "\\ud800"'), "surrogates"),
    "model card too large": (lambda d: write_card(d, "a: b\n" * 99_999), "larger than 256 KiB"),
    "model card with a huge number": (lambda d: write_card(d, "tags: " + "9" * 5000), "digits"),
    "configuration with deep JSON": (
        lambda d: (d / "config.json").write_text('{"a":' * 99_999),
        "not valid JSON",
    ),
    "layer number of many digits": (
        lambda d: edit_text(d, per_layer_config={"9" * 5000: {}}),
        "invalid per_layer_config",
    ),
    "head too large": (
        lambda d: edit_text(d, global_head_dim=2**31 - 1),
        "invalid global_head_dim: 2147483647",
    ),
    "top_k of another type": (
        lambda d: edit_json(d / "generation_config.json", top_k=0.5),
        "invalid top_k: 0.5",
    ),
    "class name of a megabyte": (
        lambda d: edit_json(d / "config.json", architectures=["x" * 1_000_000]),
        "is a x{80}, which is not supported",
    ),
    "tensor name of a megabyte": (
        lambda d: edit_header(d, lambda header: header.update({"x" * 1_000_000: EMPTY})),
        "name has 1000000 characters",
    ),
    "model card malformed": (
        lambda d: (d / "README.md").write_text("---\na: [\n---\n"),
        "front matter of .* is not valid",
    ),
}


def write_card(directory: Path, front_matter: str) -> None:
    (directory / "README.md").write_text(f"---\n{front_matter}\n---\n")


def truncate_text(path: Path) -> None:
    path.write_text(path.read_text("utf-8")[:-5], encoding="utf-8")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    source = write_checkpoint(tmp_path / "model", "12B-assistant")
    damage(source)
    with pytest.raises(LocalmtpError, match=message) as caught:
        convert(source, tmp_path / "out", options=Options(quants=["Q8_0", "BF16"]))
    assert "\n" not in caught.value.message
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("model-00002-of-00003.safetensors", "which its index lists"),
        ("../model.safetensors", "outside its directory"),
        ("model-00001-of-00003.safetensors", "does not contain it"),
    ],
)
def test_an_index_that_contradicts_the_shards_is_refused(
    tmp_path: Path, shard: str, message: str
) -> None:
    source = write_checkpoint(tmp_path / "model", "12B-assistant", shards=3)
    index = source / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    if message == "which its index lists":
        (source / shard).unlink()
    else:
        name = next(n for n, s in weight_map.items() if s.startswith("model-00002"))
        write_json(index, {"weight_map": weight_map | {name: shard}})
    with pytest.raises(LocalmtpError, match=message):
        convert(source, tmp_path / "out")


def test_sharing_layers_need_layers_with_their_own_keys(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model", "E2B")
    edit_text(source, num_kv_shared_layers=4)
    with pytest.raises(LocalmtpError, match="invalid num_kv_shared_layers: 4"):
        convert(source, tmp_path / "out")


def test_an_abort_of_libllama_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model", "31B")
    layers = {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
    edit_json(source / "config.json", **layers)  # libllama asserts that there are two
    other = re.compile(r"layers\.[^2]")
    tensors = {n: t for n, t in model_tensors("31B").items() if not other.search(n)}
    only = {name.replace("layers.2.", "layers.0."): tensor for name, tensor in tensors.items()}
    write_safetensors(source / WEIGHTS, only, "BF16")
    with pytest.raises(LocalmtpError, match=r"libllama aborted \(signal SIGABRT, .*GGML_ASSERT"):
        convert(source, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_too_little_disk_space_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(LocalmtpError, match=r"GB free, 1e\+09 GB are needed"):
        require_disk_space(tmp_path / "not" / "there", [10**18])


def test_target_and_drafter_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "target", "12B")
    drafter = write_checkpoint(tmp_path / "drafter", "12B-assistant")
    with pytest.raises(LocalmtpError, match="is a target, not a drafter"):
        convert(drafter, tmp_path / "out", drafter_source=target)
    with pytest.raises(LocalmtpError, match="is a drafter, not a target"):
        convert(drafter, tmp_path / "out", drafter_source=drafter)


def test_a_drafter_of_another_target_is_refused(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "target", "12B")
    drafter = write_checkpoint(tmp_path / "drafter", "12B-assistant")
    edit_json(drafter / "config.json", backbone_hidden_size=512)
    with pytest.raises(LocalmtpError, match=r"its hidden size is 512, .* has 256"):
        convert(target, tmp_path / "out", drafter_source=drafter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(quants=["Q9_9"]), "unknown quantization Q9_9"),
        (Options(quants=["IQ2_XXS"]), "IQ2_XXS needs an importance matrix"),
        (Options(name="../elsewhere"), "not a valid file name"),
        (Options(name=".."), "not a valid file name"),
        (Options(name=""), "not a valid file name"),
        (Options(overrides=[("(", "Q8_0")]), "invalid regular expression"),
        (Options(overrides=[("ffn_down", "Q9")]), "unknown tensor type Q9"),
        (Options(overrides=[("nothing", "Q8_0")]), "no tensor's name matches"),
        (Options(imatrix=Path("missing.gguf")), "does not exist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_options_are_refused(tmp_path: Path, options: Options, message: str) -> None:
    source = write_checkpoint(tmp_path / "model", "12B-assistant")
    with pytest.raises(LocalmtpError, match=message):
        convert(source, tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


def test_existing_files_are_replaced_only_with_force(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model", "12B-assistant")
    [first] = convert(source, tmp_path)
    first.path.write_bytes(b"precious")
    with pytest.raises(LocalmtpError, match="exists"):
        convert(source, tmp_path)
    assert first.path.read_bytes() == b"precious"
    [second] = convert(source, tmp_path, options=Options(force=True))
    assert second == first


def test_an_output_path_below_a_file_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model", "12B-assistant")
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalmtpError, match="cannot write"):
        convert(source, tmp_path / "file" / "out")


def test_an_interrupted_run_leaves_no_file(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "model", "12B-assistant")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", progress=interrupt)
    assert not list((tmp_path / "out").iterdir())
    assert convert(source, tmp_path / "out")
