"""Checkpoints with arbitrary content are converted, or refused with a one-line error."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from localmtp.bench.lab.convert.qwen_checkpoints import write_qwen
from localmtp.convert import Options, convert
from localmtp.errors import LocalmtpError
from tests.convert.checkpoints import write_checkpoint, write_json
from tests.convert.towers import write_multimodal
from tests.fuzz.budget import examples

EXAMPLES = settings(
    max_examples=examples(15, factor=0.1),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 600)
    | st.sampled_from((2**31, 2**63, -(2**70), 10**400))
    | st.floats()
    | st.text(max_size=8)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@pytest.fixture(params=["E2B", "12B-assistant"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", request.param)


def paths_into(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values in a JSON document, of at most four per list."""
    if path:
        yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value[:4])
    for key, inner in items:
        yield from paths_into(inner, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Copy of a document with another value at a path."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def convert_or_refuse(checkpoint: Path, mmproj: Sequence[str] = ()) -> None:
    options = Options(["Q8_0"], mmproj=mmproj, force=True, threads=1)
    try:
        convert(checkpoint, checkpoint.parent / "out", options=options)
    except LocalmtpError as error:
        assert error.message and "\n" not in error.message and len(error.message) < 4000
        event("refused")
    else:
        event("converted")
    assert not list((checkpoint.parent / "out").glob(".*"))


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]
)
@EXAMPLES
@given(data=st.data())
def test_any_value_at_any_path(checkpoint: Path, name: str, data: st.DataObject) -> None:
    original = (checkpoint / name).read_text()
    document = json.loads(original)
    place = data.draw(st.sampled_from(list(paths_into(document))))
    write_json(checkpoint / name, replaced(document, place, data.draw(anything)))
    try:
        convert_or_refuse(checkpoint)
    finally:
        (checkpoint / name).write_text(original)


@pytest.mark.parametrize("name", ["config.json", "processor_config.json"])
@EXAMPLES
@given(data=st.data())
def test_any_value_in_the_configuration_of_a_projector(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    checkpoint = tmp_path / "multimodal"
    if not checkpoint.exists():
        write_multimodal(checkpoint, "E2B")
    original = (checkpoint / name).read_text()
    document = json.loads(original)
    document.get("text_config", {}).clear()
    place = data.draw(st.sampled_from(list(paths_into(document))))
    changed = replaced(json.loads(original), place, data.draw(anything))
    write_json(checkpoint / name, changed)
    try:
        convert_or_refuse(checkpoint, mmproj=["F16"])
    finally:
        (checkpoint / name).write_text(original)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
@EXAMPLES
@given(data=st.data())
def test_any_value_in_a_qwen_checkpoint(tmp_path: Path, name: str, data: st.DataObject) -> None:
    checkpoint = tmp_path / "model"
    if not checkpoint.exists():
        write_qwen(checkpoint, "35B-A3B")
    original = (checkpoint / name).read_text("utf-8")
    document = json.loads(original)
    place = data.draw(st.sampled_from(list(paths_into(document))))
    write_json(checkpoint / name, replaced(document, place, data.draw(anything)))
    try:
        convert_or_refuse(checkpoint, mmproj=["F16"])
    finally:
        (checkpoint / name).write_text(original, encoding="utf-8")


@EXAMPLES
@given(data=st.data())
def test_any_value_in_a_tensor_header(checkpoint: Path, data: st.DataObject) -> None:
    path = checkpoint / "model.safetensors"
    original = path.read_bytes()
    length = int.from_bytes(original[:8], "little")
    header = json.loads(original[8 : 8 + length])
    place = data.draw(st.sampled_from(list(paths_into(header))))
    text = json.dumps(replaced(header, place, data.draw(anything))).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + original[8 + length :])
    try:
        convert_or_refuse(checkpoint)
    finally:
        path.write_bytes(original)


@EXAMPLES
@given(start=st.integers(0, 9000), junk=st.binary(min_size=1, max_size=40), cut=st.booleans())
def test_any_bytes_in_a_tensor_file(checkpoint: Path, start: int, junk: bytes, cut: bool) -> None:
    path = checkpoint / "model.safetensors"
    original = path.read_bytes()
    rest = b"" if cut else original[start + len(junk) :]
    path.write_bytes(original[:start] + junk + rest)
    try:
        convert_or_refuse(checkpoint)
    finally:
        path.write_bytes(original)


@EXAMPLES
@given(front_matter=st.text(st.sampled_from("abk:-[]{}&*!|>'\"#, \n\t\\?0.é\ud800"), max_size=80))
def test_any_front_matter_of_a_model_card(checkpoint: Path, front_matter: str) -> None:
    path = checkpoint / "README.md"
    text = f"---\nlicense: {front_matter}\nbase_model: {front_matter}\n---\n"
    path.write_bytes(text.encode(errors="surrogatepass"))
    convert_or_refuse(checkpoint)
