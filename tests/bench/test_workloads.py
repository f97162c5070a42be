"""Benchmark prompts: several of every kind, and the user's own."""

import json
from pathlib import Path

import pytest

from localmtp.bench.workloads import speed_bench, workloads_for, workloads_in
from localmtp.errors import LocalmtpError

KINDS = {"code", "json", "rewrite", "questions", "summary", "mathematics", "story", "language"}


def test_real_models_have_several_prompts_of_every_kind() -> None:
    workloads = workloads_for("gemma4-e4b", 100)
    assert set(workloads) == KINDS
    assert all(len(set(prompts)) >= 3 for prompts in workloads.values())


def test_speed_bench_has_its_eleven_categories() -> None:
    workloads = speed_bench(3)
    assert len(workloads) == 11
    assert all(len(set(prompts)) == 3 for prompts in workloads.values())


def test_nano_has_workloads_of_its_own() -> None:
    workloads = workloads_for("nano", 3)
    assert {"count", "json", "code"} <= set(workloads)
    assert all(len(prompts) == 3 for prompts in workloads.values())


@pytest.mark.parametrize("name", ["mine.toml", "mine.json"])
def test_a_file_of_prompts_replaces_them(tmp_path: Path, name: str) -> None:
    own = {"letters": ["Write to the landlord.", "Thank aunt Ines."], "tests": ["Test it."]}
    toml = "".join(f"{kind} = {json.dumps(prompts)}\n" for kind, prompts in own.items())
    file = tmp_path / name
    file.write_text(json.dumps(own) if file.suffix == ".json" else toml, "utf-8")
    workloads = workloads_for("nano", 1, workloads_in(file))
    assert workloads == {"letters": ("Write to the landlord.",), "tests": ("Test it.",)}


@pytest.mark.parametrize(
    "text", ["", "letters = 1", "letters = []", 'letters = [""]', "letters = [1]", "letters ="]
)
def test_a_file_of_something_else_is_refused_with_a_hint(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(LocalmtpError, match=r"mine\.toml") as refused:
        workloads_for("nano", 1, workloads_in(file))
    assert "prompts by workload" in (refused.value.hint or "")


@pytest.mark.parametrize("content", [b"\x80GGUF", b"[" * 100_000])
def test_a_json_file_of_any_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(content)
    with pytest.raises(LocalmtpError, match=r"mine\.json"):
        workloads_in(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalmtpError, match=r"none\.toml"):
        workloads_in(tmp_path / "none.toml")
