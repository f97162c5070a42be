"""`localmtp doctor`."""

from __future__ import annotations

import json

from tests.models.conftest import Program


def test_doctor_shows_the_machine_and_the_models_that_fit(program: Program) -> None:
    found = json.loads(program("doctor", "--json").stdout)
    assert found["cores"] >= 1
    assert 0 < found["usable_memory"] < found["memory"]
    assert found["bandwidth"] > 0
    assert found["instructions"]
    assert "CPU" in found["backends"]
    rows = {row["model"]: row for row in found["models"]}
    assert rows["gemma4-e4b:Q4_0"]["bytes"] > rows["gemma4-e2b:Q4_0"]["bytes"]
    assert rows["gemma4-31b:Q4_0"]["context"] <= rows["gemma4-e2b:Q4_0"]["context"] * 2
    dense = rows["gemma4-31b:Q4_0"]
    assert dense["n_draft"] == 4
    if not found["devices"]:  # the bandwidth of GPUs is not measured
        assert dense["tokens_per_s_drafting"] > 1.5 * dense["tokens_per_s"]
        with_head = rows["qwen3.5-9b:Q4_K_M"]  # in the target's file
        assert with_head["n_draft"] == 2
        assert with_head["tokens_per_s_drafting"] > 1.2 * with_head["tokens_per_s"]
    table = program("doctor").stdout
    assert "gemma4-26b-a4b:Q4_0" in table
    if found["devices"]:
        assert "layers on the GPU" in table
    else:
        assert "max tok/s with drafting" in table
        assert "localmtp bench MODEL" in table
