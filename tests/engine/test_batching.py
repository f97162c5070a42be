"""Several answers in one context: each as if it were alone, whatever the others do."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from localmtp.engine.decoding.batching import Batching
from localmtp.engine.decoding.drafter import NoDrafter
from localmtp.engine.decoding.generate import Generation
from localmtp.engine.events import Finished, FinishReason, Generated, Prefilled
from localmtp.engine.llama import Grammar, gbnf
from localmtp.engine.pacing import FixedPacing, Learned, Pacing, SharedPacing
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.grammar import ConstrainedSampler, UnsatisfiableError
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import Sampler, make_sampler
from localmtp.engine.stats import Counters, Stats
from localmtp.engine.text.detokenizer import Detokenizer
from localmtp.errors import LocalmtpError
from localmtp.models import resolve
from tests.engine.near_ties import part_at_near_ties_only

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


class Crowd:
    """Asks several things at once and keeps what is answered."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.pacing = SharedPacing()
        self.batching = Batching(pair.targets, pair.mtp, self.pacing)
        self.tokens: dict[Generation, list[int]] = {}
        self.ends: dict[Generation, Finished | LocalmtpError] = {}

    def ask(
        self,
        prompt: Sequence[int],
        pacing: Pacing,
        sampler: Sampler | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        max_tokens: int = 60,
    ) -> Generation:
        generation = Generation(
            target=self.batching.sequence_for(prompt),
            drafter=NoDrafter(),
            sampler=sampler or make_sampler(GREEDY),
            pacing=pacing,
            reader=Detokenizer(self.pair.target.vocab),
            counters=Counters(),
            max_tokens=max_tokens,
            cancelled=cancelled,
        )
        self.tokens[generation] = []
        self.batching.add(generation, prompt)
        return generation

    def step(self) -> None:
        for generation, what in self.batching.step():
            assert generation not in self.ends
            if isinstance(what, Generated):
                self.tokens[generation] += [piece.token_id for piece in what.pieces]
            elif not isinstance(what, Prefilled):
                self.ends[generation] = what

    def finish(self) -> None:
        while self.batching.answers:
            self.step()

    def stats(self, generation: Generation) -> Stats:
        end = self.ends[generation]
        assert isinstance(end, Finished)
        return end.stats


def prompt_of(pair: Pair, question: str) -> list[int]:
    vocab = pair.target.vocab
    text = f"<|turn>user\n{question}<turn|>\n<|turn>model\n"
    return [vocab.bos, *vocab.tokenize(text, special=True)]


def alone(pair: Pair, prompt: Sequence[int], n_draft: int) -> tuple[list[int], Stats]:
    crowd = Crowd(pair)
    for target in pair.targets:
        target.forget()
    one = crowd.ask(prompt, FixedPacing(n_draft))
    crowd.finish()
    return crowd.tokens[one], crowd.stats(one)


@pytest.mark.parametrize("n_draft", [0, 3, None])
def test_answers_are_those_of_one_at_a_time(pair: Pair, n_draft: int | None) -> None:
    crowd, learned = Crowd(pair), Learned()
    waiting = [prompt_of(pair, question) for question in QUESTIONS]
    asked: list[tuple[Generation, list[int]]] = []
    while waiting or crowd.batching.answers:
        if waiting and crowd.batching.free:  # one more in every round
            auto = crowd.pacing.answer(learned)
            prompt = waiting.pop(0)
            asked.append(
                (crowd.ask(prompt, FixedPacing(n_draft) if n_draft is not None else auto), prompt)
            )
        crowd.step()
    for generation, prompt in asked:
        expected, _ = alone(pair, prompt, 0)
        part_at_near_ties_only(pair.target, prompt, expected, crowd.tokens[generation])
        assert crowd.stats(generation).completion_tokens == len(crowd.tokens[generation])
    assert crowd.batching.free == len(pair.targets)


def test_drafts_are_accepted_as_often_as_alone(pair: Pair) -> None:
    """Each drafter step must read the hidden row and the cache of its own sequence."""
    prompts = [prompt_of(pair, question) for question in QUESTIONS[:4]]
    crowd = Crowd(pair)
    together = [crowd.ask(prompt, FixedPacing(2 + i)) for i, prompt in enumerate(prompts)]
    crowd.finish()
    for i, (generation, prompt) in enumerate(zip(together, prompts, strict=True)):
        expected, stats = alone(pair, prompt, 2 + i)
        if crowd.tokens[generation] == expected:
            found = crowd.stats(generation)
            assert abs(found.accepted - stats.accepted) <= 2, (found, stats)
            assert found.accepted > 0


def test_an_error_ends_one_answer_only(pair: Pair) -> None:
    crowd = Crowd(pair)
    prompts = [prompt_of(pair, question) for question in QUESTIONS[:3]]
    nothing = Grammar.parse(pair.target.model, 'root ::= "\\x00"')
    failing = ConstrainedSampler(make_sampler(GREEDY), GREEDY, nothing)
    schema = Grammar.parse(pair.target.model, gbnf('{"type": "integer"}'))
    number = ConstrainedSampler(make_sampler(GREEDY), GREEDY, schema)
    sound = crowd.ask(prompts[0], FixedPacing(3))
    broken = crowd.ask(prompts[1], FixedPacing(3), failing)
    bound = crowd.ask(prompts[2], FixedPacing(3), number)
    crowd.finish()
    expected, _ = alone(pair, prompts[0], 0)
    part_at_near_ties_only(pair.target, prompts[0], expected, crowd.tokens[sound])
    assert isinstance(crowd.ends[broken], UnsatisfiableError)
    vocab = pair.target.vocab
    int(b"".join(vocab.piece(token) for token in crowd.tokens[bound]))
    assert crowd.batching.free == len(pair.targets)


def test_a_cancelled_answer_leaves_the_others_alone(pair: Pair) -> None:
    crowd = Crowd(pair)
    prompts = [prompt_of(pair, question) for question in QUESTIONS[:3]]
    gone: list[bool] = []
    kept = crowd.ask(prompts[0], FixedPacing(2))
    left = crowd.ask(prompts[1], FixedPacing(2), cancelled=lambda: bool(gone))
    never = crowd.ask(prompts[2], FixedPacing(2), cancelled=lambda: True)
    for _ in range(8):
        crowd.step()
    gone.append(True)
    crowd.finish()
    for generation in (left, never):
        end = crowd.ends[generation]
        assert isinstance(end, Finished) and end.reason is FinishReason.CANCELLED
    assert crowd.tokens[left] and not crowd.tokens[never]
    expected, _ = alone(pair, prompts[0], 0)
    part_at_near_ties_only(pair.target, prompts[0], expected, crowd.tokens[kept])


def test_what_conversations_begin_with_is_prefilled_once(pair: Pair) -> None:
    """A system prompt is taken over from a sequence that has it, with its sliding layers."""
    for target in pair.targets:
        target.forget()
    vocab = pair.target.vocab
    rules = "<|turn>system\n" + "Answer in a friendly way and stay short. " * 12 + "<turn|>\n"
    prompts = [
        [
            vocab.bos,
            *vocab.tokenize(f"{rules}<|turn>user\n{q}<turn|>\n<|turn>model\n", special=True),
        ]
        for q in QUESTIONS[:4]
    ]
    crowd = Crowd(pair)
    first = crowd.ask(prompts[0], FixedPacing(2))
    while not crowd.tokens[first]:
        crowd.step()
    rest = [crowd.ask(prompt, FixedPacing(2)) for prompt in prompts[1:]]
    crowd.finish()
    shared = len(vocab.tokenize(rules, special=True))
    for generation, prompt in zip(rest, prompts[1:], strict=True):
        assert crowd.stats(generation).reused_tokens >= shared
        expected, stats = alone(pair, prompt, 0)
        assert stats.reused_tokens < shared
        part_at_near_ties_only(pair.target, prompt, expected, crowd.tokens[generation])


def test_every_sequence_has_the_whole_context(pair: Pair) -> None:
    """Conversations far longer than the window, all as long as the context, beside each other."""
    crowd = Crowd(pair)
    hot = SamplingParams(temperature=3.0, top_k=0, top_p=1.0, seed=5)
    full = pair.target.n_ctx
    asked = [
        crowd.ask(
            prompt_of(pair, question * 200)[: full - 30],
            FixedPacing(4),
            make_sampler(hot),
            max_tokens=9999,
        )
        for question in QUESTIONS[:4]
    ]
    crowd.finish()
    used = [crowd.stats(generation).context_used for generation in asked]
    assert min(used) > full - 40 > pair.target.model.n_swa
    assert max(used) == full


def test_prompts_longer_than_a_batch_are_read_in_parts() -> None:
    files = resolve("nano")
    options = LoadOptions(threads=1, context=512, parallel=3, batch=40)
    with Pair.load(files.target, files.drafter, options) as pair:
        crowd = Crowd(pair)
        prompts = [prompt_of(pair, f"{question} " * 12)[:130] for question in QUESTIONS[:3]]
        asked = [crowd.ask(prompt, FixedPacing(3), max_tokens=20) for prompt in prompts]
        crowd.finish()
        for generation, prompt in zip(asked, prompts, strict=True):
            expected, _ = alone(pair, prompt, 0)
            part_at_near_ties_only(pair.target, prompt, expected[:20], crowd.tokens[generation])
