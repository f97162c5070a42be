"""Projectors: paired with targets, pulled, listed, shown and removed with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.models.gguf_header import Header, Value
from localmtp.models.naming.pairing import DescribedFile
from localmtp.models.naming.projector import require_projector
from tests.hub import Hub
from tests.models.conftest import Pair, Program
from tests.pairs import TINY, write_pair
from tests.projectors import write_projector

REPO = "someone/gemma-4-tiny-GGUF"
OWN_ENTRIES = f"""
[small.projector]
file = "someone/projectors/small-mmproj.gguf"
bytes = 1000

[small.quants.Q8_0]
target = "{REPO}/tiny-Q8_0.gguf"
drafter = "{REPO}/mtp-tiny.gguf"

[small.quants.Q4_0]
target = "{REPO}/tiny-Q4_0.gguf"
drafter = "{REPO}/mtp-tiny.gguf"
"""


@pytest.fixture(scope="session")
def projector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A projector for images and sound that belongs to `pair`."""
    path = tmp_path_factory.mktemp("projector") / "mmproj.gguf"
    return write_projector(path, audio="gemma4a").read_bytes()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair in a folder, without projector."""
    folder = tmp_path_factory.mktemp("folder")
    write_pair(TINY["e"], folder / "tiny-Q8_0.gguf", folder / "mtp-tiny.gguf")
    return folder


def publish(hub: Hub, pair: Pair, projector: bytes) -> None:
    files = {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter}
    hub.publish(REPO, files | {"mmproj-tiny-F16.gguf": projector})


def test_a_projector_is_pulled_shown_and_removed_with_its_model(
    hub: Hub, program: Program, pair: Pair, projector: bytes
) -> None:
    publish(hub, pair, projector)
    remote = json.loads(program("show", REPO, "--json").stdout)
    assert remote["projector"] == f"{REPO}/mmproj-tiny-F16.gguf"
    assert remote["media"] == ["image", "audio"]
    assert remote["download"] == len(pair.target) + len(pair.drafter) + len(projector)
    pulled = program("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert "projector mmproj-tiny-F16.gguf (images and sound)" in pulled.stdout
    hub.stop()
    rows = json.loads(program("list", "--json").stdout)
    row = next(row for row in rows if row["model"].startswith(REPO))
    assert row["projector"] == "mmproj-tiny-F16.gguf"
    assert row["total_bytes"] == remote["download"]
    facts = json.loads(program("show", REPO, "--json").stdout)
    assert facts["projector"].endswith("mmproj-tiny-F16.gguf")
    assert facts["projector_bytes"] == len(projector)
    assert facts["memory"][0]["bytes"] > row["total_bytes"]
    assert "images and sound" in program("show", REPO).stdout
    assert program("rm", REPO, "--yes").returncode == 0
    assert not list(program.cache.rglob("*.gguf"))


def test_no_media_pulls_and_loads_no_projector(
    hub: Hub, program: Program, pair: Pair, projector: bytes
) -> None:
    publish(hub, pair, projector)
    assert "projector" not in program("pull", REPO, "--no-media").stdout
    assert not list(program.cache.rglob("*mmproj*"))
    answered = program("run", REPO, "hi", "--no-media", "--max-tokens", "2")
    assert answered.returncode == 0, answered.stderr
    facts = json.loads(program("show", REPO, "--json").stdout)
    assert facts["projector"] == ""
    assert f"`localmtp pull {REPO}` looks for one" in facts["why_no_projector"]
    assert "projector mmproj-tiny-F16.gguf" in program("pull", REPO).stdout


def test_a_registry_projector_is_shared_by_all_quantizations(
    hub: Hub, program: Program, pair: Pair, projector: bytes
) -> None:
    files = {"tiny-Q8_0.gguf": pair.target, "tiny-Q4_0.gguf": pair.target}
    hub.publish(REPO, files | {"mtp-tiny.gguf": pair.drafter})
    hub.publish("someone/projectors", {"small-mmproj.gguf": projector})
    program.configure("models.toml", OWN_ENTRIES)
    for quant in ("Q8_0", "Q4_0"):
        assert "small-mmproj.gguf" in program("pull", f"small:{quant}").stdout
    program("rm", "small:Q8_0", "--yes")
    assert list(program.cache.rglob("small-mmproj.gguf"))
    program("rm", "small:Q4_0", "--yes")
    assert not list(program.cache.rglob("*.gguf"))


def test_a_model_whose_projector_is_gone_from_the_hub_is_pulled(
    hub: Hub, program: Program, pair: Pair
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": pair.target, "mtp-tiny.gguf": pair.drafter})
    program.configure("models.toml", OWN_ENTRIES)
    pulled = program("pull", "small:Q8_0")
    assert pulled.returncode == 0, pulled.stderr
    assert "no images or sound: there is no someone/projectors on the hub" in pulled.stderr


def test_a_damaged_projector_is_downloaded_again(
    hub: Hub, program: Program, pair: Pair, projector: bytes
) -> None:
    publish(hub, pair, projector)
    program("pull", REPO)
    (found,) = program.cache.rglob("mmproj-tiny-F16.gguf")
    blob = found.resolve()
    blob.write_bytes(projector[:-1] + bytes([projector[-1] ^ 1]))
    assert program("pull", REPO, "--verify").returncode == 0
    assert found.read_bytes() == projector


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"vision": "gemma3"}, "has an encoder of type `gemma3`, which is not one of `gemma4`"),
        ({"width": 96}, "was made for a target of embedding length 96; tiny-Q8_0.gguf has 64"),
        ({"output": 96}, "was made for a target of embedding length 96"),
        ({"vision": "gemma4v", "audio": "gemma4ua"}, "mixes the encoders of two kinds of model"),
        ({"vision": "", "audio": ""}, "has neither an image encoder nor an audio encoder"),
        ({"architecture": "gemma4"}, "is not a projector: its architecture is `gemma4`"),
    ],
)
def test_a_projector_of_another_model_is_refused(
    folder: Path, tmp_path: Path, settings: dict[str, object], reason: str
) -> None:
    other = write_projector(tmp_path / "mmproj-other.gguf", **settings)  # type: ignore[arg-type]
    with pytest.raises(LocalmtpError) as refused:
        resolve(str(folder / "tiny-Q8_0.gguf"), projector=str(other))
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("architecture", "encoder", "fits"),
    [
        ("gemma4", "gemma4uv", True),
        ("gemma3", "gemma3", True),
        ("gemma3", "gemma4v", False),
        ("llama", "llava", True),
        ("llama", "gemma4v", False),
    ],
)
def test_encoders_belong_to_architectures(architecture: str, encoder: str, fits: bool) -> None:
    target = Header(
        {"general.architecture": architecture, f"{architecture}.embedding_length": 2560}, {}, {}
    )
    values: dict[str, Value] = {
        "general.architecture": "clip",
        "clip.has_vision_encoder": True,
        "clip.projector_type": encoder,
        "clip.vision.projection_dim": 2560,
    }
    pair = DescribedFile("a.gguf", target), DescribedFile("mmproj.gguf", Header(values, {}, {}))
    if fits:
        require_projector(*pair)
        return
    with pytest.raises(LocalmtpError, match=f"`{encoder}`, which is not one of `{architecture}`"):
        require_projector(*pair)


def test_the_projector_next_to_a_target_is_found_by_content_and_name(tmp_path: Path) -> None:
    target = tmp_path / "tiny-Q8_0.gguf"
    write_pair(TINY["e"], target, tmp_path / "mtp-tiny.gguf")
    write_projector(tmp_path / "mmproj-tiny-wide.gguf", 96)
    assert "embedding length 96" in resolve(str(target)).why_no_projector
    write_projector(tmp_path / "mmproj-BF16.gguf")
    write_projector(tmp_path / "mmproj-tiny-F16.gguf")
    write_projector(tmp_path / "mmproj-tiny-BF16.gguf")
    found = resolve(str(target))
    assert found.projector == tmp_path / "mmproj-tiny-F16.gguf"
    assert found.media == ("image",)
    assert resolve(str(target), projector="none").projector is None


def test_a_projector_is_refused_as_target(tmp_path: Path) -> None:
    path = write_projector(tmp_path / "mmproj-tiny.gguf")
    with pytest.raises(LocalmtpError, match="is a projector, not a target"):
        resolve(str(path))


def test_nano_reads_text_only() -> None:
    assert resolve("nano").why_no_projector == "nano reads text only"


def test_doctor_names_models_whose_projector_is_missing(
    hub: Hub, program: Program, pair: Pair
) -> None:
    files = {"tiny-Q8_0.gguf": pair.target, "tiny-Q4_0.gguf": pair.target}
    hub.publish(REPO, files | {"mtp-tiny.gguf": pair.drafter})
    program.configure("models.toml", OWN_ENTRIES)
    program("pull", "small:Q8_0", "--no-media")
    examined = program("doctor")
    assert "Pillow" in examined.stdout
    assert "`localmtp pull small:Q8_0` adds its projector" in examined.stderr
