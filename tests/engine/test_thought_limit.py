"""A thinking budget closes the thought; drafting does not change where, or what follows."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.events import Channel, Edge, Finished, Generated, Origin, Piece
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.distribution import Draft
from localmtp.engine.sampling.params import AcceptanceRule, SamplingParams
from localmtp.engine.sampling.sampler import make_sampler
from localmtp.engine.sampling.thought_limit import ThoughtLimitSampler, ThoughtMarkers
from localmtp.engine.stats import Stats
from localmtp.models import resolve
from tests.parrot import parrot

ENOUGH = "I have to answer now"
MARKERS = ThoughtMarkers(opening=1, closing=2, name_length=1, sentence=(3, 4))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    files = resolve("nano")
    with Pair.load(files.target, files.drafter, LoadOptions(threads=1, context=512)) as loaded:
        yield loaded


def answer(
    pair: Pair, prompt: Sequence[int], sampling: SamplingParams, n_draft: int | None, **more: object
) -> tuple[list[Piece], Stats]:
    request = GenerationRequest(prompt, sampling, n_draft, max_tokens=60)
    for name, value in more.items():
        setattr(request, name, value)
    events = list(pair.decode_loop().run(request))
    assert isinstance(events[-1], Finished)
    pieces = [piece for event in events if isinstance(event, Generated) for piece in event.pieces]
    return pieces, events[-1].stats


def text(pieces: Sequence[Piece], channel: Channel) -> str:
    return "".join(piece.text for piece in pieces if piece.channel is channel)


def thinking(pair: Pair) -> list[int]:
    """A prompt that ends inside a thought, which nano goes on with as with an answer."""
    vocab = pair.target.vocab
    turns = "<|turn>user\nTell me a long story about a king.<turn|>\n<|turn>model\n"
    return [vocab.bos, *vocab.tokenize(f"{turns}<|channel>thought\n", special=True)]


@pytest.mark.parametrize("sampling", [SamplingParams(0.0), SamplingParams(1.2, seed=5)])
@pytest.mark.parametrize("n_draft", [1, 3, None])
def test_drafting_does_not_change_a_cut_thought(
    pair: Pair, sampling: SamplingParams, n_draft: int | None
) -> None:
    prompt = thinking(pair)
    options = {"think_budget": 11, "channel": Channel.THOUGHT}
    plain, stats = answer(pair, prompt, sampling, 0, **options)
    drafted, drafted_stats = answer(pair, prompt, sampling, n_draft, **options)
    assert [p.token_id for p in plain] == [p.token_id for p in drafted]
    thought = text(plain, Channel.THOUGHT)
    assert ENOUGH in thought
    before = [p for p in plain[:11] if p.channel is Channel.THOUGHT and p.edge is Edge.NONE]
    assert len(before) == 11
    assert ENOUGH not in "".join(p.text for p in before)
    assert text(plain, Channel.ANSWER)
    assert stats.thought_cut and drafted_stats.thought_cut
    assert stats.thought_tokens == drafted_stats.thought_tokens > 11
    if n_draft == 3:
        closing = next(i for i, p in enumerate(drafted) if p.edge is Edge.CLOSE)
        origins = [p.origin for p in drafted[11 : closing + 1]]
        assert origins.count(Origin.DRAFT) >= len(origins) // 2  # forced tokens are drafted


def test_an_answer_cut_anywhere_resumes_with_the_rest_of_its_budget(pair: Pair) -> None:
    prompt, sampling = thinking(pair), SamplingParams(1.2, seed=7)
    options = {"think_budget": 8, "channel": Channel.THOUGHT}
    whole = [p.token_id for p in answer(pair, prompt, sampling, 3, **options)[0]]
    for cut in (1, 7, 8, 9, 14):
        rest, _ = answer(pair, [*prompt, *whole[:cut]], sampling, 3, **options)
        assert [p.token_id for p in rest][: len(whole) - cut] == whole[cut:]


def test_a_thought_within_its_budget_is_left_alone(pair: Pair) -> None:
    prompt = thinking(pair)
    free, stats = answer(pair, prompt, SamplingParams(0.0), 3, channel=Channel.THOUGHT)
    limited, _ = answer(
        pair, prompt, SamplingParams(0.0), 3, channel=Channel.THOUGHT, think_budget=400
    )
    assert free == limited
    assert not stats.thought_cut


@pytest.mark.parametrize("rule", [None, *AcceptanceRule])
def test_forced_tokens_follow_the_budget_whatever_is_drafted(rule: AcceptanceRule | None) -> None:
    """Random drafts, some of which open and close thoughts themselves."""
    random = np.random.default_rng(8)
    for seed in range(300):
        sampling = SamplingParams(0.0) if rule is None else SamplingParams(acceptance=rule)
        inner = make_sampler(replace(sampling, seed=seed, top_k=9))
        sampler = ThoughtLimitSampler(inner, MARKERS, 3, (), in_thought=False)
        tokens: list[int] = []
        while len(tokens) < 30:
            draft = Draft()
            for row in random.normal(0, 2, (3, 9)).astype(np.float32):
                sampler.draw(sampler.propose(row), draft)
            logits = random.normal(0, 2, (4, 9)).astype(np.float32)
            before = logits.copy()
            accepted, next_token = sampler.accept(logits, draft)
            np.testing.assert_array_equal(logits, before)
            tokens += [*draft.tokens[:accepted], next_token]
        check(tokens, sampler.cut)


def check(tokens: Sequence[int], cut: bool) -> None:
    """Fails unless thoughts end within three tokens in all, or with the sentence."""
    used, at, forced = 0, 0, False
    while at < len(tokens):
        if tokens[at] != 1:
            at += 1
            continue
        used, at = used - 1, at + 1
        while at < len(tokens) and tokens[at] != 2:
            if used >= 3:
                forced = True
                assert tuple(tokens[at : at + 3]) == (3, 4, 2)[: len(tokens) - at]
                at += 2
                break
            used, at = used + 1, at + 1
    assert cut or not forced


def test_through_the_whole_program(tmp_path: Path) -> None:
    """`localmtp run --think-budget` with a model that would think on and on."""
    words = [f" thinking{i}" for i in range(30)]
    script = ["<|channel>", "thought\n", *words, "<channel|>", "Done."]
    model = parrot(tmp_path / "thinker.gguf", script)
    command = [sys.executable, "-m", "localmtp", "run", str(model), "Why?", "--drafter", "none"]
    command += ["--temp", "0", "--think-budget", "12", "--max-tokens", "80", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "thinking9" in report["thought"]
    assert "thinking16" not in report["thought"]
    assert report["thought"].endswith(f"{ENOUGH}, with what I have worked out so far.\n")
    assert report["stats"]["thought_cut"] is True
