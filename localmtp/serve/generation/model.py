"""The pair behind the server: tokenizes prompts and decodes a batch of choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localmtp.engine.decoding.batching import Batching
from localmtp.engine.decoding.drafter import NoDrafter
from localmtp.engine.decoding.generate import Generation
from localmtp.engine.events import Finished
from localmtp.engine.llama import Grammar
from localmtp.engine.pacing import FixedPacing, Learned, Pacing, SharedPacing
from localmtp.engine.pair import LoadOptions
from localmtp.engine.sampling.grammar import ConstrainedSampler
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.sampling.sampler import make_sampler
from localmtp.engine.stats import Counters
from localmtp.engine.text.detokenizer import Detokenizer
from localmtp.errors import LocalmtpError
from localmtp.models import ModelFiles
from localmtp.serve.generation.choice import RunningChoice as Answer
from localmtp.serve.generation.job import Delta as Said
from localmtp.serve.generation.job import Done as Ended
from localmtp.serve.generation.job import GenerationParams as Task
from localmtp.serve.generation.logprobs import LogprobsSampler as ScoringSampler
from localmtp.serve.metrics import Metrics
from localmtp.session import Choices, Settings
from localmtp.session.loading import load_pair
from localmtp.session.local import default_sampling, pacing_store_for
from localmtp.session.prompts import chat_template, prompt_tokens

Json = Mapping[str, Any]


class ServedModel:
    """A loaded pair that decodes several choices concurrently.

    `begin`, `step`, `give_up` and `close` belong to the model thread; the other methods are
    thread-safe.

    Args:
        files: target and drafter.
        choices: defaults for fields that requests leave out.
        options: how to load the pair.
        metrics: counts the choices.

    Raises:
        LocalmtpError: see `load_pair`.
    """

    def __init__(
        self, files: ModelFiles, choices: Choices, options: LoadOptions, metrics: Metrics
    ) -> None:
        self.name = files.name
        self.drafter_name = files.drafter_name
        self.choices = choices
        self._why_no_drafter = files.why_no_drafter
        self._metrics = metrics
        self._pair, _ = load_pair(files, options)
        self._pacing_store = pacing_store_for(files, options)
        # Keyed by greedy decoding: the drafter's confidence has another meaning there.
        self._learned = {
            greedy: self._pacing_store.load(greedy=greedy) or Learned() for greedy in (False, True)
        }
        self._shared = SharedPacing(self._pair.target.threads.now)
        self._batching = Batching(self._pair.targets, self._pair.mtp, self._shared)
        self._answers: dict[Generation, Answer] = {}
        self._spelled: list[Sequence[int]] = [()] * len(self._pair.targets)
        self._template = chat_template(self._pair)
        self._default = default_sampling(self._pair)
        self.context_size = self._pair.target.n_ctx
        self.vocab_size = self._pair.target.vocab.size

    @property
    def drafting(self) -> str:
        """`on` or `off: REASON`, for requests without `n_draft`."""
        settings = self.settings({})
        return self._state(self._pacing(settings.n_draft, settings.sampling))

    def settings(self, chosen: Mapping[str, Any]) -> Settings:
        """Settings of a request: its own choices, then the server's, then the model's."""
        return replace(self.choices, **chosen).settings(self._default)

    def chat_text(self, turns: Sequence[Json], tools: Sequence[Json], *, think: bool) -> str:
        """Render a conversation with the chat template; see `ChatTemplate.render`.

        Raises:
            LocalmtpError: the model has no chat template, or it rejects the conversation.
        """
        if self._template is None:
            raise LocalmtpError(f"{self.name} has no chat template; use `/v1/completions`")
        if tools and not self._template.knows_tools:
            raise LocalmtpError(f"the chat template of {self.name} does not support tools")
        return self._template.render(turns, think=think, tools=tools)

    def text_prompt(self, text: str) -> list[int]:
        """Tokenize raw text, with BOS.

        Text of a recent answer keeps the tokens that the model generated.

        Raises:
            LocalmtpError: the prompt does not fit the context.
        """
        return prompt_tokens(self._pair, text, *self._spelled)

    def grammar(self, text: str) -> Grammar:
        """Parse a grammar for this model's vocabulary.

        Raises:
            LocalmtpError: see `Grammar.parse`.
        """
        return Grammar.parse(self._pair.target.model, text)

    @property
    def parallel(self) -> int:
        """Number of slots."""
        return len(self._pair.targets)

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self._batching.free

    def begin(self, task: Task, stopped: Callable[[], bool]) -> Answer:
        """Begin an answer; `free` says whether there is room for it.

        Args:
            task: what to generate.
            stopped: asked between passes; an answer that was stopped ends as `length`.
        """
        target = self._batching.sequence_for(task.prompt)
        sampler = make_sampler(task.sampling)
        if task.grammar is not None:
            sampler = ConstrainedSampler(sampler, task.sampling, task.grammar.clone())
        scoring = None
        if task.logprobs is not None:
            sampler = scoring = ScoringSampler(sampler, target.vocab, task.logprobs)
        generation = Generation(
            target=target,
            drafter=NoDrafter(),  # the batch drafts for all
            sampler=sampler,
            pacing=self._pacing(task.n_draft, task.sampling),
            reader=Detokenizer(target.vocab),
            counters=Counters(load_s=self._pair.load_s, context_size=self.context_size),
            max_tokens=task.max_tokens or self.context_size,
            cancelled=stopped,
        )
        answer = self._answers[generation] = Answer(generation, task, scoring)
        self._spelled[target.sequence] = answer.tokens
        self._batching.add(generation, task.prompt)
        return answer

    def step(self) -> Iterator[tuple[Answer, Said | Ended | LocalmtpError]]:
        """A pass for all answers.

        Yields:
            What each said; `Ended` or an error once, at its end.
        """
        for generation, what in self._batching.step():
            answer = self._answers[generation]
            if isinstance(what, LocalmtpError):
                self._forget(generation, "failed")
                yield answer, what
                continue
            if isinstance(what, Finished):
                self._forget(generation, answer.reason)
            for update in answer.updates(what):
                yield answer, update

    def give_up(self) -> None:
        """Abort all choices after a failed pass."""
        for generation in self._batching.give_up():
            self._forget(generation, "failed")

    def close(self) -> None:
        """Save the pacing data and free the pair."""
        for greedy, learned in self._learned.items():
            self._pacing_store.save(learned, greedy=greedy)
        self._pair.close()

    def _forget(self, generation: Generation, reason: str) -> None:
        del self._answers[generation]
        generation.counters.drafting = self._state(generation.pacing)
        self._metrics.count(generation.counters, reason)

    def _state(self, pacing: Pacing) -> str:
        return f"off: {self._why_no_drafter}" if self._why_no_drafter else pacing.state

    def _pacing(self, n_draft: int | None, sampling: SamplingParams) -> Pacing:
        if self._why_no_drafter:
            return FixedPacing(0)
        if n_draft is not None:
            return FixedPacing(n_draft)
        return self._shared.answer(self._learned[sampling.temperature == 0])
