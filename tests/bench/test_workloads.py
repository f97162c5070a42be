"""Prompts: several of every kind, and order of measuring that favours no length."""

from localmtp.bench.workloads import workloads_for

KINDS = {"code", "json", "rewrite", "questions", "summary", "mathematics", "story", "language"}


def test_real_models_have_several_prompts_of_every_kind() -> None:
    workloads = workloads_for("gemma4-e4b", 100)
    assert set(workloads) == KINDS
    assert all(len(set(prompts)) >= 3 for prompts in workloads.values())


def test_nano_is_asked_what_it_knows() -> None:
    workloads = workloads_for("nano", 3)
    assert {"count", "json", "code"} <= set(workloads)
    assert all(len(prompts) == 3 for prompts in workloads.values())
