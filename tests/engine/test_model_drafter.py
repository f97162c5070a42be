"""Draft models: any model with the target's vocabulary, on a cache of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from localmtp.engine.decoding.generation import Generation, GenerationRequest
from localmtp.engine.decoding.loop import DecodeLoop
from localmtp.engine.events import Finished, Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from localmtp.session.loading import load_pair
from tests.draft_models import noisy
from tests.engine.near_ties import assert_differ_at_near_ties_only

GREEDY = SamplingParams(temperature=0.0)
QUESTIONS = ("Tell me a story about a fox.", "Count from 1 to 20.", "Who are you?")


@pytest.fixture(scope="module")
def drafter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy(tmp_path_factory.mktemp("drafts") / "small.gguf")


@pytest.fixture(scope="module")
def pair(drafter: Path) -> Iterator[Pair]:
    options = LoadOptions(threads=1, context=512, parallel=3)
    with Pair.load(resolve("nano").target, drafter, options) as loaded:
        yield loaded


def prompt_of(pair: Pair, text: str) -> list[int]:
    vocab = pair.target.vocab
    turns = f"<|turn>user\n{text}<turn|>\n<|turn>model\n"
    return [vocab.bos, *vocab.tokenize(turns, special=True)]


def answered(
    loop: DecodeLoop,
    prompt: Sequence[int],
    n_draft: int | None,
    sampling: SamplingParams = GREEDY,
    most: int = 60,
) -> tuple[list[int], Stats]:
    tokens: list[int] = []
    request = GenerationRequest(prompt, sampling, n_draft=n_draft, max_tokens=most)
    for event in loop.run(request):
        if isinstance(event, Generated):
            tokens += [piece.token_id for piece in event.pieces]
        elif isinstance(event, Finished):
            return tokens, event.stats
    raise AssertionError("the answer did not finish")


@pytest.mark.parametrize("n_draft", [1, 4, 16, None])
def test_greedy_answers_do_not_depend_on_drafts(pair: Pair, n_draft: int | None) -> None:
    loop = pair.decode_loop()
    accepted = drafted = 0
    for question in QUESTIONS:
        prompt = prompt_of(pair, question)
        expected, _ = answered(loop, prompt, 0)
        found, stats = answered(loop, prompt, n_draft)
        assert_differ_at_near_ties_only(pair.sequences[0], prompt, expected, found)
        accepted, drafted = accepted + stats.accepted, drafted + stats.drafted
    if n_draft:
        assert 0 < accepted < drafted


def test_seeded_answers_do_not_depend_on_drafts(pair: Pair) -> None:
    loop, sampling = pair.decode_loop(), SamplingParams(seed=7)
    prompt = prompt_of(pair, QUESTIONS[0])
    expected, _ = answered(loop, prompt, 0, sampling)
    found, stats = answered(loop, prompt, 3, sampling)
    assert found == expected
    assert stats.accepted > 0


def test_answers_side_by_side_are_those_of_one_at_a_time(pair: Pair) -> None:
    loop = pair.decode_loop()
    prompts = [prompt_of(pair, question) for question in QUESTIONS]
    alone = [answered(loop, prompt, 0)[0] for prompt in prompts]
    found: dict[Generation, list[int]] = {}
    for n, prompt in enumerate(prompts):
        request = GenerationRequest(prompt, GREEDY, n_draft=2 + n, max_tokens=60)
        found[loop.start(request)] = []
    while loop.active:
        for generation, output in loop.step():
            if isinstance(output, Generated):
                found[generation] += [piece.token_id for piece in output.pieces]
    for prompt, expected, tokens in zip(prompts, alone, found.values(), strict=True):
        assert_differ_at_near_ties_only(pair.sequences[0], prompt, expected, tokens)


def test_its_cache_follows_edits_and_returns(tmp_path: Path) -> None:
    """An exact copy of the target drafts only right tokens, whatever was in its cache before."""
    options = LoadOptions(threads=1, context=512)
    exact = noisy(tmp_path / "same.gguf", 0.0)
    with Pair.load(resolve("nano").target, exact, options) as pair:
        loop = pair.decode_loop()
        long = prompt_of(pair, "Tell me a story about a fox and a dog who live in a small house.")
        for prompt in (long, long[:-9] + long[-6:], long, prompt_of(pair, "Who are you?"), long):
            _, stats = answered(loop, prompt, 4, most=40)
            assert stats.accepted == stats.drafted > 0
            answered(loop, prompt[: len(prompt) // 2], 0, most=5)  # not followed


def test_media_in_prompts_are_left_out(pair: Pair) -> None:
    """Pseudo-ids below 0 stand for rows that the draft model cannot read."""
    drafter, sequence = pair.drafter, pair.sequences[0]
    assert drafter is not None
    prompt = prompt_of(pair, QUESTIONS[1])
    expected, _ = answered(pair.decode_loop(), prompt, 4)
    kept = list(sequence.tokens)
    sequence.tokens[:] = [*prompt[:3], -5, -6, *prompt[3:]]
    drafter.prefilled(sequence, 0)
    sequence.tokens[:] = kept
    found, stats = answered(pair.decode_loop(), prompt, 4)
    assert_differ_at_near_ties_only(sequence, prompt, expected, found)
    assert stats.accepted > 0


def test_a_draft_model_through_the_program(drafter: Path) -> None:
    command = [sys.executable, "-m", "localmtp", "run", "nano", QUESTIONS[0], "--json"]
    command += ["--temp", "0", "--max-tokens", "40", "--threads", "1"]
    plain = subprocess.run([*command, "--drafter", "none"], capture_output=True, text=True)
    done = subprocess.run(
        [*command, "--drafter", str(drafter), "--n-draft", "3"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["text"] == json.loads(plain.stdout)["text"]
    assert found["drafter"] == "small"
    assert found["stats"]["acceptance_rate"] > 0


def test_another_vocabulary_is_refused(drafter: Path, tmp_path: Path) -> None:
    data = bytearray(drafter.read_bytes())
    at = data.index(b"<|tool_response>")
    data[at : at + 4] = b"<|fo"
    other = tmp_path / "other.gguf"
    other.write_bytes(data)
    files = resolve("nano", drafter=str(other))
    with pytest.raises(LocalmtpError, match=r"token 9 is '<.fool_response>'"):
        load_pair(files, LoadOptions(threads=1, context=128))
