"""DRY, and answers that repeat themselves: neither depends on drafting."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.events import Generated
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.distribution import NO_DRAFT, Draft, Proposal, certain
from localmtp.engine.sampling.params import AcceptanceRule, OnRepeat, SamplingParams
from localmtp.engine.sampling.repetition import RepetitionGuard, cycle_length
from localmtp.engine.sampling.sampler import make_sampler
from localmtp.engine.sampling.truncation import distribution
from localmtp.models import resolve
from tests.parrot import parrot

DRY = SamplingParams(0.0, dry_multiplier=0.8, dry_base=1.5, dry_allowed_length=2)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    files = resolve("nano")
    with Pair.load(files.target, files.drafter, LoadOptions(threads=1, context=512)) as loaded:
        yield loaded


def piece(token: int) -> bytes:
    """Token 0 breaks sequences."""
    return b"\n" if token == 0 else b"x"


def dry_penalties(text: Sequence[int], size: int, sampling: SamplingParams) -> np.ndarray:
    """Penalties after a text, from the definition."""
    penalties = np.zeros(size)
    for token in range(1, size):
        longest = 0
        for at in range(1, len(text)):
            if text[at] != token:
                continue
            same = 0
            while same < at and text[at - 1 - same] == text[-1 - same] != 0:
                same += 1
            longest = max(longest, same)
        if longest >= sampling.dry_allowed_length:
            power = sampling.dry_base ** (longest - sampling.dry_allowed_length)
            penalties[token] = sampling.dry_multiplier * power
    return penalties


def test_penalties_follow_the_definition() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        text = random.integers(0, 4, 30).tolist()
        sampler = make_sampler(DRY, text, piece)
        logits = random.normal(0, 1, (1, 4)).astype(np.float32)
        before = logits.copy()
        _, token = sampler.accept(logits, NO_DRAFT)
        np.testing.assert_array_equal(logits, before)
        assert token == int((before[0] - dry_penalties(text, 4, DRY)).argmax())


@pytest.mark.parametrize("rule", AcceptanceRule)
def test_tokens_are_distributed_as_dry_says(rule: AcceptanceRule) -> None:
    """Of two tokens, the second: its penalties depend on the first, drafted or not."""
    random = np.random.default_rng(3)
    size, rounds, prompt = 8, 4000, (1, 2, 3, 1, 2, 4, 1, 2)
    target = random.normal(0, 0.7, (3, size)).astype(np.float32)
    drafter = target[:2] + random.normal(0, 0.5, (2, size)).astype(np.float32)
    sampling = SamplingParams(dry_multiplier=1.2, acceptance=rule, top_p=1.0)
    counts, expected = np.zeros((size, size)), np.zeros((size, size))
    for seed in range(rounds):
        params = SamplingParams(dry_multiplier=1.2, acceptance=rule, top_p=1.0, seed=seed)
        sampler = make_sampler(params, prompt, piece)
        draft = Draft()
        for row in drafter:
            sampler.draw(sampler.propose(row.copy()), draft)
        accepted, next_token = sampler.accept(target, draft)
        tokens = [*draft.tokens[:accepted], next_token]
        if len(tokens) == 1:
            tokens.append(sampler.accept(target[1:2], Draft())[1])
        counts[tokens[0], tokens[1]] += 1
    first = distribution(penalized(target[0], prompt, sampling), sampling)
    for one, p in zip(first.ids, first.probs, strict=True):
        second = distribution(penalized(target[1], (*prompt, one), sampling), sampling)
        for other, q in zip(second.ids, second.probs, strict=True):
            expected[one, other] = p * q * rounds
    usual = expected >= 5
    statistic = (((counts - expected) ** 2)[usual] / expected[usual]).sum()
    degrees = usual.sum() - 1
    assert statistic < degrees + 5 * np.sqrt(2 * degrees)


def penalized(logits: np.ndarray, text: Sequence[int], sampling: SamplingParams) -> np.ndarray:
    row: np.ndarray = logits - dry_penalties(text, logits.size, sampling)
    return row.astype(np.float32)


@pytest.mark.parametrize("temperature", [0.0, 1.2])
@pytest.mark.parametrize("n_draft", [3, None])
def test_drafting_does_not_change_an_answer_with_dry(
    pair: Pair, n_draft: int | None, temperature: float
) -> None:
    vocab, loop = pair.target.vocab, pair.decode_loop()
    text = "<|turn>user\nTell me a long story about a king.<turn|>\n<|turn>model\n"
    prompt = [vocab.bos, *vocab.tokenize(text, special=True)]

    def answer(n: int | None, sampling: SamplingParams) -> list[int]:
        events = loop.run(GenerationRequest(prompt, sampling, n, max_tokens=80))
        return [p.token_id for e in events if isinstance(e, Generated) for p in e.pieces]

    sampling = SamplingParams(temperature, seed=2, dry_multiplier=20.0, dry_allowed_length=1)
    plain = answer(0, sampling)
    assert plain == answer(n_draft, sampling)
    assert plain != answer(0, SamplingParams(temperature, seed=2))


def test_cycles_are_noticed_and_lists_are_not() -> None:
    random = np.random.default_rng(1)
    words = random.integers(0, 500, 300).tolist()
    for period in (1, 2, 7, 60, 300, 500):
        cycle = random.permutation(1000)[:period].tolist()
        assert cycle_length([*words, *cycle * (2048 // period + 1)]) == period
        assert not cycle_length([*words, *cycle * 3])
    counted = [token for number in range(400) for token in (7, 8, number, 9)]
    assert not cycle_length(counted)
    assert not cycle_length(words)
    guard = RepetitionGuard(piece)
    at = next(i for i, token in enumerate([*words, *[1, 2, 3] * 200]) if guard.read(token))
    assert at < len(words) + 256 + 32 and guard.cycle == 3


@pytest.mark.parametrize("drafted", [1, 5, 16])
def test_dry_draws_out_a_circle_at_the_same_token_whatever_is_drafted(drafted: int) -> None:
    """A target that repeats itself, and drafts that follow it."""

    def row(previous: int) -> np.ndarray:
        logits = np.zeros(20, np.float32)
        logits[previous % 5 + 1] = 9
        return logits

    def answer(length: int) -> list[int]:
        sampler = make_sampler(SamplingParams(0.0, on_repeat=OnRepeat.DRY), (), piece)
        text = [1]
        while len(text) < 500:
            draft = Draft()
            for _ in range(length):
                token = (draft.tokens or text)[-1] % 5 + 1
                sampler.draw(Proposal(1.0, token, certain(token)), draft)
            rows = np.stack([row(token) for token in (text[-1], *draft.tokens)])
            accepted, token = sampler.accept(rows, draft)
            text += [*draft.tokens[:accepted], token]
        return text[:500]

    plain = answer(0)
    assert plain[:256] == [i % 5 + 1 for i in range(256)]
    assert plain[300:] != [i % 5 + 1 for i in range(300, 500)]
    assert answer(drafted) == plain


class Words:
    """Tokens of a text: words with the space before them, digits, and other characters."""

    def __init__(self) -> None:
        self._texts: list[bytes] = []

    def tokens(self, text: str) -> list[int]:
        texts = [each.encode() for each in re.findall(r" ?[^\W\d_]+|\d|\W", text)]
        self._texts += dict.fromkeys(each for each in texts if each not in self._texts)
        ids = {each: token for token, each in enumerate(self._texts)}
        return [ids[each] for each in texts]

    def piece(self, token: int) -> bytes:
        return self._texts[token]


def noticed(text: str) -> int:
    """Tokens after which a text is noticed; 0 if it is not."""
    words = Words()
    tokens = words.tokens(text)
    guard = RepetitionGuard(words.piece)
    return next((n for n, token in enumerate(tokens, 1) if guard.read(token)), 0)


NOUNS = ["river", "stone", "market", "letter", "garden", "winter", "copper", "window"]


@pytest.mark.parametrize(
    "line",
    [
        "Step {n}: I will now check the file again, to make sure that it is correct. ",
        "Wait. There are {n} items in the list, so the answer is {m}. Let me try again.\n\n",
        "The {a} was the most important thing in the world for him, and he thought about it "
        "every day of his long and quiet life in the village by the sea. ",
        "Шаг {n}: сейчас я снова проверю этот файл, чтобы убедиться, что он верный. ",
    ],
)
def test_near_copies_of_sentences_are_noticed(line: str) -> None:
    """Counters of any length, and a word that changes."""
    nouns = np.random.default_rng(2).choice(NOUNS, 400)
    text = "".join(line.format(n=n, m=n * n, a=nouns[n]) for n in range(1, 400))
    assert 2048 <= noticed(text) < 3000


@pytest.mark.parametrize(
    "line",
    [
        "{n} x 17 = {m}\n",
        "| {n} | {m} | item {n} | in stock |\n",
        '  {{"id": {n}, "name": "User {n}", "email": "user{n}@example.com", "active": true}},\n',
        "def test_{n}():\n    result = compute({n})\n    assert result == {m}, 'wrong result'\n\n",
        "Nov 28 04:10:{n} host systemd[1]: Started Session {m} of user root.\n",
        "{n}. The {a} near the {b} holds a {c} and a {d}.\n",
        "Question {n}: What is the {a} of {b}?\nAnswer: It is {c}, because of the {d}.\n\n",
    ],
)
def test_lists_tables_logs_and_code_are_not_near_copies(line: str) -> None:
    random = np.random.default_rng(2)
    text = ""
    for n in range(1, 300):
        a, b, c, d = random.choice(NOUNS, 4)
        text += line.format(n=n, m=n * n, a=a, b=b, c=c, d=d)
    assert not noticed(text)


@pytest.mark.parametrize("drafted", [1, 7, 16])
def test_near_copies_count_at_the_same_token_whatever_is_drafted(drafted: int) -> None:
    words = Words()
    line = "Step {n}: I will now check the file again, to make sure that it is correct. "
    tokens = words.tokens("".join(line.format(n=n) for n in range(1, 200)))
    guard, alone = RepetitionGuard(words.piece), RepetitionGuard(words.piece)
    expected = [alone.turns(()) for token in tokens if (alone.read(token), True)[1]]
    found: list[bool] = []
    for at in range(0, len(tokens) - drafted, drafted):
        draft = tokens[at : at + drafted]
        found += [guard.turns(draft[: length + 1]) for length in range(drafted)]
        for token in draft:
            guard.read(token)
    assert found == expected[: len(found)] and any(found)


def test_near_copies_through_the_whole_program(tmp_path: Path) -> None:
    """A sentence with another number each time."""
    sentence = ["Now", " I", " count", " the", " number", " of", " sheep", " again", ":"]
    digits = [str(digit) for digit in range(10)]
    also = {":": digits, **{digit: ["Now"] for digit in digits}}
    long = {"gemma4.context_length": 8192}
    script = [*sentence, *digits]
    model = parrot(tmp_path / "sheep.gguf", script, also=also, ends=False, metadata=long)
    command = [sys.executable, "-m", "localmtp", "run", str(model), "Hi", "--drafter", "none"]
    command += ["--max-tokens", "4000", "--ctx", "4608", "--json", "--threads", "1"]
    done = subprocess.run(
        [*command, "--seed", "1", "--top-k", "11"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["finish_reason"] == "repeat", report["text"][-200:]
    assert 2048 <= report["completion_tokens"] < 4000
    assert 9 < report["stats"]["cycle_tokens"] < 30


def test_repetition_through_the_whole_program(tmp_path: Path) -> None:
    model = parrot(tmp_path / "circle.gguf", ["Round", " and", " round", " we go. "], ends=False)

    def run(*flags: str) -> dict[str, object]:
        command = [sys.executable, "-m", "localmtp", "run", str(model), "Hi", "--drafter", "none"]
        command += ["--max-tokens", "400", "--ctx", "1024", "--json", "--threads", "1", *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        report: dict[str, object] = json.loads(done.stdout)
        return report

    stopped = run("--top-k", "1")
    assert stopped["finish_reason"] == "repeat"
    assert isinstance(stopped["stats"], dict) and stopped["stats"]["cycle_tokens"] == 4
    assert run("--temp", "0")["finish_reason"] == "length"
    assert run("--temp", "0", "--on-repeat", "stop")["finish_reason"] == "repeat"
    circle = str(run("--temp", "0")["text"])
    dried = str(run("--temp", "0", "--on-repeat", "dry")["text"])
    assert circle[:600] == dried[:600] and circle != dried
