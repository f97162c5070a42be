"""Pairs derived from nano have the intended properties."""

from pathlib import Path

import pytest

from localmtp.bench.lab.pacing import variants
from localmtp.engine.events import Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.models import ModelFiles
from localmtp.models.resolution import resolve
from localmtp.session import Choices
from localmtp.session.local import LocalSession

PROMPT = "Count from 7 to 30 in steps of 1."


def made(directory: Path, *arguments: str) -> ModelFiles:
    variants.main([str(directory), *arguments])
    target, drafter = directory / "nano-Q8_0.gguf", directory / "mtp-nano-Q8_0.gguf"
    return ModelFiles("variant", target, drafter, "its drafter")


def answer(files: ModelFiles, temperature: float) -> tuple[list[int], float]:
    """Tokens of a long answer, and its acceptance rate."""
    with Pair.load(files.target, files.drafter, LoadOptions(context=512, threads=1)) as pair:
        choices = Choices(temperature=temperature, n_draft=3, max_tokens=120, seed=1)
        session = LocalSession(pair, files, choices)
        events = [e for e in session.ask(PROMPT) if isinstance(e, Generated)]
        tokens = [piece.token_id for event in events for piece in event.pieces]
        return tokens, session.stats().acceptance_rate


@pytest.fixture(scope="module")
def nano() -> tuple[list[int], float]:
    return answer(resolve("nano"), 0.0)


def test_a_heavy_pair_is_larger_and_answers_the_same(
    tmp_path: Path, nano: tuple[list[int], float]
) -> None:
    files = made(tmp_path, "--megabytes", "30", "--drafter-megabytes", "3")
    assert files.target.stat().st_size == pytest.approx(36.5e6, rel=0.05)
    assert files.drafter is not None
    assert files.drafter.stat().st_size == pytest.approx(4.3e6, rel=0.1)
    assert answer(files, 0.0) == nano


def test_a_vague_pair_answers_the_same_greedily(
    tmp_path: Path, nano: tuple[list[int], float]
) -> None:
    files = made(tmp_path, "--vague", "2")
    assert answer(files, 0.0) == nano
    assert answer(files, 1.0) == answer(resolve("nano"), 2.0)


def test_a_noisy_drafter_is_accepted_less_and_changes_nothing(
    tmp_path: Path, nano: tuple[list[int], float]
) -> None:
    tokens, accepted = answer(made(tmp_path, "--noise", "0.6"), 0.0)
    assert tokens == nano[0]
    assert accepted < 0.7 * nano[1]
