"""`localmtp share` against a hub on loopback, through the real client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from localmtp.convert.quality.report import DrafterScore, Report, TargetScore
from tests.hub import Hub
from tests.models.conftest import Program
from tests.models.gguf_edit import STRING, edited
from tests.projectors import write_projector

REPO = "someone/tiny-GGUF"
FILES = ["mtp-tiny-it-Q8_0.gguf", "tiny-it-BF16.gguf", "tiny-it-Q4_0.gguf"]


def test_metadata_and_names_cannot_add_structure_to_the_card(
    program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    url = "https://huggingface.co/a/b)\n\n# Injected\n\n[x](https://example.com"
    changes = {
        "general.source.repo_url": (STRING, url),
        "general.license": (STRING, "mit\n---\n# Injected"),
    }
    edited(folder / "a | b\n# Injected-Q8_0.gguf", changes)
    dry = program("share", str(folder), REPO, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert front_matter(dry.stdout)["license"] == "mit --- # Injected"
    body = dry.stdout.split("\n---\n", 1)[1]
    assert "\n# Injected" not in body
    assert r"| a \| b # Injected-Q8_0.gguf | target |" in body


def front_matter(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_files_and_card_are_uploaded_to_a_private_repository_and_run(
    hub: Hub, program: Program, directory: Path
) -> None:
    shared = program("share", str(directory), REPO)
    assert (shared.returncode, shared.stderr) == (0, "")
    assert shared.stdout == f"{hub.endpoint}/{REPO} (private)\n"
    files = hub.repositories[REPO].files
    assert sorted(files) == ["README.md", *FILES]
    assert all(files[name] == (directory / name).read_bytes() for name in FILES)
    assert hub.repositories[REPO].needs_token
    answer = program("run", f"{REPO}:Q4_0", "hi", "--max-tokens", "2")
    assert answer.returncode == 0, answer.stderr


def test_the_card_has_the_metadata_of_the_files(program: Program, directory: Path) -> None:
    dry = program("share", str(directory), REPO, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert front_matter(dry.stdout) == {
        "base_model": ["google/gemma-4-tiny"],
        "base_model_relation": "quantized",
        "language": ["en"],
        "library_name": "gguf",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "quantized_by": "someone",
        "tags": ["gguf", "gemma4", "llama.cpp", "localmtp", "mtp", "speculative-decoding", "tiny"],
    }
    rows = [line.split(" | ") for line in dry.stdout.splitlines() if ".gguf |" in line]
    assert [row[:3] for row in rows] == [
        ["| tiny-it-BF16.gguf", "target", "BF16"],
        ["| tiny-it-Q4_0.gguf", "target", "Q4_0"],
        ["| mtp-tiny-it-Q8_0.gguf", "drafter", "Q8_0"],
    ]
    assert rows[0][4].startswith("16.")
    assert f"localmtp chat {REPO}:Q4_0" in dry.stdout
    assert f"llama-server -hf {REPO}:Q4_0 --spec-type draft-mtp" in dry.stdout


def test_the_card_has_the_measurements(program: Program, directory: Path) -> None:
    report = Report(
        "default",
        1024,
        FILES[1],
        [TargetScore(FILES[1], "BF16", 8.125, None, None)],
        [DrafterScore(FILES[0], "Q8_0", [0.75, 0.5], 2.25)],
    )
    report.save(directory / "tiny-it.report.json")
    card = program("share", str(directory), REPO, "--dry-run").stdout
    assert "On 1024 tokens of the text that localmtp ships" in card
    assert f"| {FILES[1]} | 8.125 | reference |  |" in card
    assert f"| {FILES[0]} | 75% | 50% | 2.25 |" in card


def test_a_dry_run_names_the_files_and_sends_nothing(
    hub: Hub, program: Program, directory: Path
) -> None:
    dry = program("share", str(directory), REPO, "--dry-run", HF_TOKEN="")
    assert [line.split()[0] for line in dry.stderr.splitlines()[1:]] == [
        "tiny-it-BF16.gguf",
        "tiny-it-Q4_0.gguf",
        "mtp-tiny-it-Q8_0.gguf",
    ]
    assert hub.requests == []


def test_flags_take_precedence_over_metadata(program: Program, directory: Path) -> None:
    flags = ["--base-model", "me/a", "--base-model", "me/b", "--license", "gemma"]
    dry = program("share", str(directory), REPO, "--dry-run", "--quantized-by", "me", *flags)
    card = front_matter(dry.stdout)
    assert card["base_model"] == ["me/a", "me/b"]
    assert (card["license"], card["quantized_by"]) == ("gemma", "me")


def test_a_handwritten_card_is_uploaded(hub: Hub, program: Program, directory: Path) -> None:
    own = "---\nlicense: mit\n---\n# Mine\n"
    (directory / "README.md").write_text(own)
    assert program("share", str(directory), REPO).returncode == 0
    assert hub.repositories[REPO].files["README.md"] == own.encode()


def test_a_repository_is_public_only_with_the_flag(
    hub: Hub, program: Program, directory: Path
) -> None:
    shared = program("share", str(directory), REPO, "--public")
    assert shared.stdout.endswith("(public)\n")
    assert not hub.repositories[REPO].needs_token
    again = program("share", str(directory), REPO)
    assert again.returncode == 1
    assert again.stderr.splitlines()[0] == f"error: {REPO} exists already, and is public"


def test_an_interrupted_upload_resumes(hub: Hub, program: Program, directory: Path) -> None:
    # 403 is final; the client retries server errors.
    hub.faults.uploads = [0, 403, 403]
    broken = program("share", str(directory), REPO)
    assert (broken.returncode, len(broken.stderr.splitlines())) == (1, 2)
    arrived = len(hub.store.received)
    assert 0 < arrived < len(FILES)
    assert program("share", str(directory), REPO).returncode == 0
    sizes = sorted((directory / name).stat().st_size for name in FILES)
    assert sorted(hub.store.received) == sizes
    assert sorted(hub.repositories[REPO].files) == ["README.md", *FILES]


def test_a_model_in_parts_is_one_row_and_must_be_whole(program: Program, directory: Path) -> None:
    for part in ("1", "2"):
        name = f"tiny-it-Q8_0-0000{part}-of-00002.gguf"
        (directory / name).write_bytes((directory / FILES[1]).read_bytes())
    dry = program("share", str(directory), REPO, "--dry-run")
    assert "| tiny-it-Q8_0-00001-of-00002.gguf and 1 more | target | Q8_0 |" in dry.stdout
    (directory / "tiny-it-Q8_0-00002-of-00002.gguf").unlink()
    refused = program("share", str(directory), REPO, "--dry-run")
    assert "is one of 2 parts; 1 are here" in refused.stderr


def test_without_a_token_it_says_how_to_log_in(program: Program, directory: Path) -> None:
    refused = program("share", str(directory), REPO, HF_TOKEN="")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "error: uploading needs a token",
        "hint: run `hf auth login`, or set HF_TOKEN to a token that may write",
    ]


@pytest.mark.parametrize("repo", ["tiny", "a/b/c", "a b/c", "someone/.."])
def test_malformed_names_are_refused(program: Program, directory: Path, repo: str) -> None:
    refused = program("share", str(directory), repo, "--dry-run")
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        f"error: {repo!r} is not a repository name",
        "hint: write USER/REPO",
    ]


def test_a_directory_without_models_is_refused(program: Program, tmp_path: Path) -> None:
    refused = program("share", str(tmp_path), REPO, "--dry-run")
    assert refused.stderr.splitlines()[0] == f"error: {tmp_path} holds no GGUF file of a model"
    (tmp_path / "x.gguf").write_bytes(b"no")
    refused = program("share", str(tmp_path), REPO, "--dry-run")
    assert refused.stderr.startswith(f"error: {tmp_path / 'x.gguf'} ")
    refused = program("share", str(tmp_path / "missing"), REPO, "--dry-run")
    assert "is not a directory" in refused.stderr


def test_a_refusal_is_reported_in_one_line(hub: Hub, program: Program, directory: Path) -> None:
    refused = program("share", str(directory), "another/tiny-GGUF")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 2)
    assert "you may not write to another/tiny-GGUF (status 403)" in refused.stderr
    (directory / "README.md").write_text("---\n: [\n---\n")
    refused = program("share", str(directory), REPO)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 2)
    assert "bad front matter" in refused.stderr
    hub.stop()
    refused = program("share", str(directory), REPO)
    assert refused.stderr.startswith(f"error: cannot reach {hub.endpoint}")


def test_a_projector_is_uploaded_described_and_found_by_its_target(
    hub: Hub, program: Program, directory: Path
) -> None:
    write_projector(directory / "mmproj-tiny-it-F16.gguf", 256, audio="gemma4a")
    card = program("share", str(directory), REPO, "--dry-run").stdout
    assert "the projector with which it reads images and sound" in card
    assert front_matter(card)["pipeline_tag"] == "image-text-to-text"
    assert f'localmtp run {REPO}:Q4_0 "What is this?" --image photo.jpg' in card
    assert "| mmproj-tiny-it-F16.gguf | projector | F16 |" in card
    assert program("share", str(directory), REPO).returncode == 0
    assert "mmproj-tiny-it-F16.gguf" in hub.repositories[REPO].files
    assert "projector mmproj-tiny-it-F16.gguf" in program("pull", f"{REPO}:Q4_0").stdout


def test_a_projector_of_another_model_is_refused(program: Program, directory: Path) -> None:
    write_projector(directory / "mmproj-other.gguf", 96)
    refused = program("share", str(directory), REPO, "--dry-run")
    assert refused.returncode == 1
    assert "was made for a target of embedding length 96" in refused.stderr
