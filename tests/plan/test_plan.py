"""`localmtp plan` as a real process; its llama.cpp command is run where there is one."""

import json
import shlex
from pathlib import Path

import pytest

from localmtp.models.naming.registry import entries
from localmtp.plan.planning import ENGINES, EnginePlan, make_plan
from tests.draft_models import noisy
from tests.folders import move_user_folders
from tests.pairs import TINY, write_pair, write_target
from tests.projectors import write_projector
from tests.remote.processes import LLAMA_SERVER, free_port, listening, localmtp


def planned(model: str, engine: str, context: int = 8192, bench: Path | None = None) -> EnginePlan:
    return make_plan(model, engine, context, bench=bench, offline=True)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolates models and results of `bench` from those of the user."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    move_user_folders(monkeypatch, tmp_path / "data", "DATA")


def test_vllm_gets_the_checkpoint_and_its_assistant() -> None:
    plan = planned("gemma4-31b", "vllm", context=4096)
    (command,) = plan.recipe.commands
    assert command[:3] == ("vllm", "serve", "google/gemma-4-31B-it")
    assert command[command.index("--max-model-len") + 1] == "4096"
    assert json.loads(command[command.index("--speculative-config") + 1]) == {
        "method": "mtp",
        "model": "google/gemma-4-31B-it-assistant",
        "num_speculative_tokens": 4,
        "draft_sample_method": "probabilistic",
    }
    assert "80 GB" in plan.memory


def test_a_repository_of_the_registry_is_recognized() -> None:
    plan = planned("google/gemma-4-E4B-it-qat-q4_0-gguf", "vllm")
    assert plan.recipe.commands[0][2] == "google/gemma-4-E4B-it"


def test_missing_files_are_downloaded_first() -> None:
    for engine in ("llama.cpp", "ollama"):
        target, drafter, *rest = planned("gemma4-e4b:Q4_K_M", engine).recipe.commands
        assert target[:3] == ("hf", "download", "ggml-org/gemma-4-E4B-it-GGUF")
        assert drafter[3] == "mtp-gemma-4-E4B-it-Q8_0.gguf"
        assert rest


def test_ollama_gets_a_modelfile() -> None:
    printed = localmtp("plan", "nano", "--for", "ollama")
    lines = [line.split(maxsplit=1) for line in printed.stdout.splitlines()]
    assert [line[0] for line in lines[:2]] == ["FROM", "DRAFT"]
    assert all(Path(line[1]).is_file() for line in lines[:2])
    assert ["PARAMETER", "draft_num_predict 3"] in lines
    assert "ollama create localmtp-nano -f Modelfile" in printed.stderr
    assert "not run" in printed.stderr


def test_the_printed_command_is_one_shell_command() -> None:
    printed = localmtp("plan", "nano", "--for", "llama.cpp")
    joined = printed.stdout.replace("\\\n", "")
    assert tuple(shlex.split(joined)) == planned("nano", "llama.cpp").recipe.commands[0]
    assert "run with nano" in printed.stderr


def test_json_is_one_object() -> None:
    done = localmtp("plan", "nano", "--for", "llama.cpp", "--offline", "--json")
    assert json.loads(done.stdout) == json.loads(json.dumps(planned("nano", "llama.cpp").as_dict()))


def report(folder: Path, rates: dict[str, float], model: str = "nano") -> Path:
    runs = [
        {"workload": w, "n_draft": n, "temp": 0.0, "decode_tokens_per_s": rate}
        for w in ("code", "prose")
        for n, rate in rates.items()
    ]
    path = folder / "result.json"
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cpu": "a fast one", "threads": 2, "devices": []}
    fields = {"model": model, "version": "1.0", "when": "2026-01-02T03:04:05+00:00"}
    path.write_text(json.dumps({**fields, "machine": machine, "runs": runs}))
    return path


def test_the_draft_length_is_the_fastest_of_bench(tmp_path: Path) -> None:
    path = report(tmp_path, {"0": 10.0, "2": 14.0, "5": 16.0, "auto": 17.0})
    plan = planned("nano", "llama.cpp", bench=path)
    assert plan.n_draft == 5
    assert "a fast one" in plan.n_draft_from
    report(tmp_path / "data" / "localmtp" / "bench", {"0": 10.0, "4": 12.0})
    assert planned("nano", "llama.cpp").n_draft == 4


def test_without_a_gain_there_is_no_drafter(tmp_path: Path) -> None:
    path = report(tmp_path, {"0": 10.0, "2": 9.0})
    (command,) = planned("nano", "llama.cpp", bench=path).recipe.commands
    assert "-md" not in command
    assert "DRAFT" not in planned("nano", "ollama", bench=path).recipe.file


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nano", "--for", "vllm"], "vLLM runs checkpoints"),
        (["gemma4-e4", "--for", "ollama"], "gemma4-e4b"),
        (["./none.gguf", "--for", "llama.cpp"], "none.gguf"),
        (["nano", "--for", "llama.cpp", "--bench", "none.json"], "none.json"),
    ],
)
def test_errors(arguments: list[str], said: str) -> None:
    done = localmtp("plan", *arguments, "--offline")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_every_model_of_the_registry_has_a_plan(engine: str) -> None:
    for model in entries():
        plan = planned(model, engine)
        assert plan.n_draft >= 1 or (engine == "ollama" and "DRAFT" not in plan.recipe.file)
        assert plan.recipe.checked
        assert "two bytes" not in plan.memory, model


def test_a_head_in_the_file_needs_no_second_file() -> None:
    *downloads, command = planned("qwen3.5-9b", "llama.cpp").recipe.commands
    assert "-md" not in command
    assert command[command.index("--spec-type") + 1] == "draft-mtp"
    assert len(downloads) == 2  # target and projector
    (command,) = planned("qwen3.5-9b", "vllm").recipe.commands
    config = json.loads(command[command.index("--speculative-config") + 1])
    assert config == {"method": "mtp", "num_speculative_tokens": 2}
    plan = planned("qwen3.5-9b", "ollama")
    assert "DRAFT" not in plan.recipe.file
    assert plan.n_draft == 0
    assert plan.pays.startswith("none")
    assert "DRAFT" in planned("qwen3.8-27b:UD-IQ3_S", "ollama").recipe.file


def test_a_modelfile_has_the_sampling_of_the_family() -> None:
    qwen, gemma = (planned(name, "ollama").recipe.file for name in ("qwen3.5-9b", "nano"))
    assert "PARAMETER temperature 0.7\nPARAMETER top_k 20\nPARAMETER top_p 0.8\n" in qwen
    assert "PARAMETER temperature 1\nPARAMETER top_k 64\nPARAMETER top_p 0.95\n" in gemma


def test_a_smaller_model_drafts_where_the_engine_allows_it(tmp_path: Path) -> None:
    drafter = str(noisy(tmp_path / "small.gguf"))
    done = localmtp("plan", "nano", "--drafter", drafter, "--for", "llama.cpp", "--json")
    (command,) = json.loads(done.stdout)["recipe"]["commands"]
    assert command[command.index("-md") + 1] == drafter
    assert command[command.index("--spec-type") + 1] == "draft-simple"
    plan = make_plan("nano", "ollama", 8192, drafter=drafter, offline=True)
    assert (plan.n_draft, "DRAFT" in plan.recipe.file) == (0, False)
    assert "with MTP drafters only" in plan.n_draft_from
    refused = localmtp("plan", "nano", "--drafter", drafter, "--for", "vllm")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "vLLM runs checkpoints" in refused.stderr
    missing = localmtp("plan", "gemma4-e4b", "--drafter", drafter, "--for", "vllm", "--offline")
    assert "is not on this machine" in missing.stderr


def test_vllm_gets_the_checkpoints_that_target_and_draft_model_name(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.gguf" for name in ("large", "small")]
    for file in files:
        write_target(TINY["dense"], file, original=f"https://huggingface.co/a/{file.stem}")
    plan = make_plan(str(files[0]), "vllm", 8192, drafter=str(files[1]), offline=True)
    (command,) = plan.recipe.commands
    assert command[:3] == ("vllm", "serve", "a/large")
    assert json.loads(command[command.index("--speculative-config") + 1]) == {
        "method": "draft_model",
        "model": "a/small",
        "num_speculative_tokens": 3,
    }


@pytest.mark.skipif(not LLAMA_SERVER, reason="LOCALMTP_LLAMA_CPP_BIN names no llama.cpp")
@pytest.mark.parametrize("smaller", [False, True], ids=["assistant", "draft model"])
def test_the_command_for_llama_cpp_runs_and_drafts(tmp_path: Path, smaller: bool) -> None:
    drafter = str(noisy(tmp_path / "small.gguf", noise=0)) if smaller else None
    plan = make_plan("nano", "llama.cpp", 8192, drafter=drafter, offline=True)
    (command,) = plan.recipe.commands
    port = free_port()
    instead = [LLAMA_SERVER, *command[1 : command.index("--port")], "--port", str(port), "-t", "1"]
    with listening(instead, port, tmp_path / "log") as url:
        done = localmtp("run", "--server", url, "Who are you?", "--json", "--temp", "0")
    stats = json.loads(done.stdout)["stats"]
    assert stats["drafting"] == "on"
    assert stats["draft_length_mean"] == pytest.approx(3, abs=0.5)
    assert stats["accepted"] > 0


def test_the_projector_is_part_of_a_plan(tmp_path: Path) -> None:
    target, drafter = tmp_path / "tiny-F32.gguf", tmp_path / "mtp-tiny.gguf"
    write_pair(TINY["dense"], target, drafter)
    projector = write_projector(tmp_path / "mmproj-tiny-F16.gguf")
    (command,) = planned(str(target), "llama.cpp").recipe.commands
    assert command[command.index("--mmproj") + 1] == str(projector)
    lines = planned(str(target), "ollama").recipe.file.splitlines()
    assert lines[:2] == [f"FROM {target}", f"FROM {projector}"]
    downloads = planned("gemma4-e2b:Q8_0", "llama.cpp").recipe.commands[:-1]
    assert [command[3].partition("-")[0] for command in downloads] == ["gemma", "mtp", "mmproj"]
