"""Several answers in one context are independent of each other."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from localmtp.engine.decoding.generation import Generation, GenerationRequest
from localmtp.engine.events import Finished, FinishReason, Generated, Prefilled
from localmtp.engine.llama import Grammar, gbnf
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.grammar import ConstrainedSampler, UnsatisfiableError
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler, make_sampler
from localmtp.engine.stats import Stats
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from tests.engine.near_ties import assert_differ_at_near_ties_only

GREEDY = SamplingParams(temperature=0.0)
QUESTIONS = (
    "Count from 1 to 20.",
    "Tell me a story about a fox.",
    "Write a Python function that adds two numbers.",
    "Who are you?",
    "Tell me about the sun.",
    "Count from 30 to 5.",
)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    files = resolve("nano")
    options = LoadOptions(threads=1, context=512, parallel=4)
    with Pair.load(files.target, files.drafter, options) as loaded:
        yield loaded


class Batch:
    """Answers decoded in one loop, and their results."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.loop = pair.decode_loop()
        self.tokens: dict[Generation, list[int]] = {}
        self.ends: dict[Generation, Finished | LocalmtpError] = {}

    def start(
        self,
        prompt: Sequence[int],
        n_draft: int | None,
        sampler: Sampler | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        max_tokens: int = 60,
    ) -> Generation:
        request = GenerationRequest(
            prompt,
            GREEDY,
            n_draft=n_draft,
            max_tokens=max_tokens,
            sampler=sampler,
            cancelled=cancelled,
        )
        generation = self.loop.start(request)
        self.tokens[generation] = []
        return generation

    def step(self) -> None:
        for generation, output in self.loop.step():
            assert generation not in self.ends
            if isinstance(output, Generated):
                self.tokens[generation] += [piece.token_id for piece in output.pieces]
            elif not isinstance(output, Prefilled):
                self.ends[generation] = output

    def finish(self) -> None:
        while self.loop.active:
            self.step()

    def stats(self, generation: Generation) -> Stats:
        end = self.ends[generation]
        assert isinstance(end, Finished)
        return end.stats


def prompt_of(pair: Pair, question: str) -> list[int]:
    vocab = pair.target.vocab
    text = f"<|turn>user\n{question}<turn|>\n<|turn>model\n"
    return [vocab.bos, *vocab.tokenize(text, special=True)]


def clear(pair: Pair) -> None:
    for sequence in pair.sequences:
        sequence.clear()


def alone(pair: Pair, prompt: Sequence[int], n_draft: int) -> tuple[list[int], Stats]:
    batch = Batch(pair)
    clear(pair)
    one = batch.start(prompt, n_draft)
    batch.finish()
    return batch.tokens[one], batch.stats(one)


@pytest.mark.parametrize("n_draft", [0, 3, None])
def test_answers_are_those_of_one_at_a_time(pair: Pair, n_draft: int | None) -> None:
    batch = Batch(pair)
    waiting = [prompt_of(pair, question) for question in QUESTIONS]
    asked: list[tuple[Generation, list[int]]] = []
    while waiting or batch.loop.active:
        if waiting and batch.loop.free:  # one more in every round
            prompt = waiting.pop(0)
            asked.append((batch.start(prompt, n_draft), prompt))
        batch.step()
    for generation, prompt in asked:
        expected, _ = alone(pair, prompt, 0)
        assert_differ_at_near_ties_only(
            pair.sequences[0], prompt, expected, batch.tokens[generation]
        )
        assert batch.stats(generation).completion_tokens == len(batch.tokens[generation])
    assert batch.loop.free == len(pair.sequences)


def test_drafts_are_accepted_as_often_as_alone(pair: Pair) -> None:
    """Each draft step must read the hidden state and the cache of its own sequence."""
    prompts = [prompt_of(pair, question) for question in QUESTIONS[:4]]
    batch = Batch(pair)
    together = [batch.start(prompt, 2 + i) for i, prompt in enumerate(prompts)]
    batch.finish()
    for i, (generation, prompt) in enumerate(zip(together, prompts, strict=True)):
        expected, stats = alone(pair, prompt, 2 + i)
        if batch.tokens[generation] == expected:
            found = batch.stats(generation)
            assert abs(found.accepted - stats.accepted) <= 2, (found, stats)
            assert found.accepted > 0


def test_an_error_ends_one_answer_only(pair: Pair) -> None:
    batch = Batch(pair)
    prompts = [prompt_of(pair, question) for question in QUESTIONS[:3]]
    nothing = Grammar.parse(pair.target.model, 'root ::= "\\x00"')
    failing = ConstrainedSampler(make_sampler(GREEDY), GREEDY, nothing)
    schema = Grammar.parse(pair.target.model, gbnf('{"type": "integer"}'))
    number = ConstrainedSampler(make_sampler(GREEDY), GREEDY, schema)
    sound = batch.start(prompts[0], 3)
    broken = batch.start(prompts[1], 3, failing)
    bound = batch.start(prompts[2], 3, number)
    batch.finish()
    expected, _ = alone(pair, prompts[0], 0)
    assert_differ_at_near_ties_only(pair.sequences[0], prompts[0], expected, batch.tokens[sound])
    assert isinstance(batch.ends[broken], UnsatisfiableError)
    vocab = pair.target.vocab
    int(b"".join(vocab.piece(token) for token in batch.tokens[bound]))
    assert batch.loop.free == len(pair.sequences)


def test_a_cancelled_answer_leaves_the_others_alone(pair: Pair) -> None:
    batch = Batch(pair)
    prompts = [prompt_of(pair, question) for question in QUESTIONS[:3]]
    gone: list[bool] = []
    kept = batch.start(prompts[0], 2)
    left = batch.start(prompts[1], 2, cancelled=lambda: bool(gone))
    never = batch.start(prompts[2], 2, cancelled=lambda: True)
    for _ in range(8):
        batch.step()
    gone.append(True)
    batch.finish()
    for generation in (left, never):
        end = batch.ends[generation]
        assert isinstance(end, Finished) and end.reason is FinishReason.CANCELLED
    assert batch.tokens[left] and not batch.tokens[never]
    expected, _ = alone(pair, prompts[0], 0)
    assert_differ_at_near_ties_only(pair.sequences[0], prompts[0], expected, batch.tokens[kept])


def test_a_shared_prefix_is_prefilled_once(pair: Pair) -> None:
    """A system prompt is shared by a sequence that has it, sliding-window layers included."""
    clear(pair)
    vocab = pair.target.vocab
    rules = "<|turn>system\n" + "Answer in a friendly way and stay short. " * 12 + "<turn|>\n"
    prompts = [
        [
            vocab.bos,
            *vocab.tokenize(f"{rules}<|turn>user\n{q}<turn|>\n<|turn>model\n", special=True),
        ]
        for q in QUESTIONS[:4]
    ]
    batch = Batch(pair)
    first = batch.start(prompts[0], 2)
    while not batch.tokens[first]:
        batch.step()
    rest = [batch.start(prompt, 2) for prompt in prompts[1:]]
    batch.finish()
    shared = len(vocab.tokenize(rules, special=True))
    for generation, prompt in zip(rest, prompts[1:], strict=True):
        assert batch.stats(generation).reused_tokens >= shared
        expected, stats = alone(pair, prompt, 0)
        assert stats.reused_tokens < shared
        assert_differ_at_near_ties_only(
            pair.sequences[0], prompt, expected, batch.tokens[generation]
        )


def test_every_sequence_has_the_whole_context(pair: Pair) -> None:
    """Conversations much longer than the window, each as long as the context, side by side."""
    batch = Batch(pair)
    hot = SamplingParams(temperature=3.0, top_k=0, top_p=1.0, seed=5)
    full = pair.target.n_ctx
    asked = [
        batch.start(
            prompt_of(pair, question * 200)[: full - 30],
            4,
            make_sampler(hot),
            max_tokens=9999,
        )
        for question in QUESTIONS[:4]
    ]
    batch.finish()
    used = [batch.stats(generation).context_used for generation in asked]
    assert min(used) > full - 40 > pair.target.model.n_swa
    assert max(used) == full


def test_prompts_longer_than_a_batch_are_prefilled_in_parts() -> None:
    files = resolve("nano")
    options = LoadOptions(threads=1, context=512, parallel=3, batch=40)
    with Pair.load(files.target, files.drafter, options) as pair:
        batch = Batch(pair)
        prompts = [prompt_of(pair, f"{question} " * 12)[:130] for question in QUESTIONS[:3]]
        asked = [batch.start(prompt, 3, max_tokens=20) for prompt in prompts]
        batch.finish()
        for generation, prompt in zip(asked, prompts, strict=True):
            expected, _ = alone(pair, prompt, 0)
            assert_differ_at_near_ties_only(
                pair.sequences[0], prompt, expected[:20], batch.tokens[generation]
            )


def test_every_loop_measures_each_number_of_threads(pair: Pair) -> None:
    """Includes loops of `verify` and `bench`: all are created by the pair."""
    batch = Batch(pair)
    batch.start(prompt_of(pair, QUESTIONS[0]), None)
    batch.finish()
    assert batch.loop.plain_tokens_per_s > 0
    threads = pair.target.threads
    threads.set(2)
    assert batch.loop.plain_tokens_per_s == 0
    threads.set(1)
    assert batch.loop.plain_tokens_per_s > 0


def test_the_reason_for_no_drafter_belongs_to_the_pair() -> None:
    files = resolve("nano")
    options = LoadOptions(threads=1, context=512)
    with Pair.load(files.target, None, options, no_drafter="--drafter none") as pair:
        loop = pair.decode_loop()
        for n_draft in (None, 0, 3):
            assert loop.drafting_state(n_draft, greedy=True) == "off: --drafter none"
    with Pair.load(files.target, files.drafter, options) as pair:
        assert pair.decode_loop().drafting_state(0, greedy=True) == "off: --n-draft 0"
