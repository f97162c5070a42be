"""`bench synthetic`: the cost of rounds is measured, speeds are computed from it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localmtp.bench.synthetic.files import synthetic_file
from localmtp.bench.synthetic.forecast import forecast, published
from localmtp.bench.synthetic.survey import RoundCosts, survey
from localmtp.engine.decoding.prefill import prefill
from localmtp.engine.decoding.sequence import TargetSequence
from localmtp.engine.pair import LoadOptions, Pair

FLAT = RoundCosts((0.0, *(0.01 * n for n in range(1, 9))), (0.1,) * 9, (0.0,) * 9, 5)
"""A GPU: passes of any length cost the same, draft steps a tenth of one."""

STEEP = RoundCosts((0.0, *(0.01 * n for n in range(1, 9))), tuple(0.1 * n for n in range(1, 10)),
              (0.0,) * 9, 5)  # fmt: skip
"""A slow CPU: every row costs as much as the first."""

TINY: dict[str, Any] = {
    "hidden_size": 256, "num_hidden_layers": 6, "period": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "global_head_dim": 64, "intermediate_size": 512,
    "sliding_window": 64, "max_position_embeddings": 1024, "vocab_size": 1024,
    "hidden_size_per_layer_input": 0,
}  # fmt: skip
QWEN: dict[str, Any] = {
    "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "intermediate_size": 256, "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64, "vocab_size": 1024, "max_position_embeddings": 1024,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 32,
    "linear_value_head_dim": 32, "mtp_num_hidden_layers": 1,
    "rope_parameters": {"mrope_section": [2, 1, 1]},
}  # fmt: skip
TINY_DRAFTER = TINY | {
    "architectures": ["Gemma4AssistantForCausalLM"],
    "backbone_hidden_size": 256, "hidden_size": 128, "num_hidden_layers": 4, "period": 4,
}  # fmt: skip


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "localmtp", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | environment,
    )


def test_fixed_lengths_are_arithmetic() -> None:
    two = forecast(FLAT, "code", (0.8, 0.6), 2)
    assert two.tokens_per_pass == pytest.approx(1 + 0.8 + 0.6)
    assert two.tokens_per_s == pytest.approx(2.4 / 0.12)
    assert two.acceptance_rate == pytest.approx(0.7)
    four = forecast(FLAT, "code", (0.8, 0.6), 4)
    assert four.tokens_per_pass == pytest.approx(1 + 0.8 + 0.6 + 0.45 + 0.3375)
    assert forecast(FLAT, "code", (0.8, 0.6), 0).tokens_per_s == pytest.approx(10)


def test_pacing_drafts_only_where_it_pays() -> None:
    fixed = [forecast(FLAT, "code", (0.8, 0.6), n).tokens_per_s for n in range(9)]
    paced = forecast(FLAT, "code", (0.8, 0.6), None)
    assert paced.tokens_per_s > 0.97 * max(fixed)
    assert paced.draft_length > 2
    steep = forecast(STEEP, "story", (0.4, 0.1), None)
    assert steep.draft_length < 0.5
    assert steep.tokens_per_s > 0.95 * forecast(STEEP, "story", (0.4, 0.1), 0).tokens_per_s


def test_published_shares_are_shares() -> None:
    for shares in published().values():
        assert list(shares) == sorted(shares, reverse=True)
        assert shares[0] <= 1.0


EMBEDDINGS = {"hidden_size_per_layer_input": 32, "num_kv_shared_layers": 3}
EXPERTS = {"enable_moe_block": True, "num_experts": 8, "top_k_experts": 2,
           "moe_intermediate_size": 64}  # fmt: skip


@pytest.mark.parametrize(("quant", "extra"), [("Q8_0", EMBEDDINGS), ("Q4_0", EXPERTS)])
def test_a_synthetic_pair_loads_and_is_surveyed(
    tmp_path: Path, quant: str, extra: dict[str, Any]
) -> None:
    target, drafter = tmp_path / "t.gguf", tmp_path / "d.gguf"
    configurations = {"architectures": ["Gemma4ForCausalLM"], **TINY, **extra}, TINY_DRAFTER
    for path, config in zip((target, drafter), configurations, strict=True):
        file = synthetic_file(path.stem, config, quant)
        file.outline(path)
        size = path.stat().st_size
        file.fill(path)
        assert path.stat().st_size == size > file.nbytes
    with Pair.load(target, drafter, LoadOptions(context=512, threads=1)) as pair:
        costs = survey(pair, range(4), 0.0)
        assert logits_differ(pair.sequences[0])
    assert costs.rounds >= 2
    assert costs.draft_s[0] < costs.draft_s[3]
    assert all(seconds > 0 for seconds in costs.verify_s)


@pytest.mark.parametrize("experts", [{}, {"num_experts": 8, "num_experts_per_tok": 2}])
def test_a_synthetic_model_with_its_head_is_surveyed(
    tmp_path: Path, experts: dict[str, int]
) -> None:
    path, name = tmp_path / "t.gguf", "Moe" if experts else ""
    config = {"architectures": [f"Qwen3_5{name}ForCausalLM"], **QWEN, **experts}
    file = synthetic_file("tiny", config, "Q8_0")
    file.outline(path)
    file.fill(path)
    with Pair.load(path, path, LoadOptions(context=512, threads=1)) as pair:
        costs = survey(pair, range(4), 0.0)
        assert logits_differ(pair.sequences[0])
    assert costs.rounds >= 2
    assert costs.draft_s[0] < costs.draft_s[3]


def logits_differ(sequence: TargetSequence) -> bool:
    """Whether two tokens give different, finite logits: the weights are loaded."""
    found = []
    for token in (302, 303):
        prefill(sequence, [2, 300, 301])
        found.append(sequence.verify(token)[0].copy())
    one, other = found
    return bool(abs(one).max() < 1e9 and abs(one - other).max() > 1e-3)


def test_a_pair_on_disk_is_forecast_for_given_shares() -> None:
    done = bench("synthetic", "nano", "--acceptance", "0.5,0.25", "--n-draft", "1,2,auto",
                 "--threads", "1", "--budget", "0.01", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["synthetic"] is True
    runs = {run["n_draft"]: run for run in report["runs"]}
    assert set(runs) == {"0", "1", "2", "auto"}
    assert runs["2"]["tokens_per_pass"] == pytest.approx(1.75)
    rounds = report["rounds"]
    for n in (0, 1, 2):
        assert rounds[n]["n_draft"] == n
        seconds = sum(rounds[n][part] for part in ("draft_s", "verify_s", "rest_s"))
        rate = runs[str(n)]["tokens_per_pass"] / seconds
        assert runs[str(n)]["decode_tokens_per_s"] == pytest.approx(rate)


def test_a_model_that_does_not_fit_is_refused_without_files(tmp_path: Path) -> None:
    """The largest model at full precision: 61 GB."""
    done = bench("synthetic", "gemma4-31b:F16", "--ctx", "131072", TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert "gemma4-31b:F16" in done.stderr
    assert "needs" in done.stderr
    assert "hint" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_terminated_run_removes_its_files(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "localmtp", "bench", "synthetic", "gemma4-e2b"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stderr is not None
        assert "writing" in process.stderr.readline()
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert not list(tmp_path.iterdir())


def test_options_without_effect_are_refused() -> None:
    assert "--temp" in bench("synthetic", "nano", "--temp", "1").stderr
    assert bench("nano", "--acceptance", "0.5").returncode == 2
    assert bench("synthetic", "gemma4-e2b", "--drafter", "some.gguf").returncode == 1
    assert bench("synthetic", "nano", "--acceptance", "0.5,0.6").returncode == 2
    unknown = bench("synthetic", "gemma4-e2b:Q9")
    assert unknown.returncode == 1
    assert "Q9" in unknown.stderr
