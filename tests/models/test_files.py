"""The files of a model on disk."""

from pathlib import Path

from localmtp.models.files import ModelFiles


def test_a_target_is_as_large_as_all_of_its_parts(tmp_path: Path) -> None:
    for name, size in {
        "m-00001-of-00002.gguf": 10,
        "m-00002-of-00002.gguf": 5,
        "other-00002-of-00002.gguf": 3,
        "m.gguf": 7,
    }.items():
        (tmp_path / name).write_bytes(bytes(size))
    parts = ModelFiles("m", tmp_path / "m-00001-of-00002.gguf", None, "")
    single = ModelFiles("m", tmp_path / "m.gguf", None, "")
    assert (parts.target_bytes, single.target_bytes) == (15, 7)
