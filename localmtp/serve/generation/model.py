"""The pair behind the server: prompts to token ids, tasks to text."""

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
from localmtp.serve.generation.answer import Answer
from localmtp.serve.generation.scoring import ScoringSampler
from localmtp.serve.generation.tasks import Ended, Said, Task
from localmtp.serve.metrics import Metrics
from localmtp.session import Choices, Settings
from localmtp.session.loading import load_pair
from localmtp.session.local import default_sampling, pacing_store_for
from localmtp.session.prompts import chat_template, prompt_tokens

Json = Mapping[str, Any]


class ServedModel:
    """A loaded pair that answers several tasks at once.

    `begin`, `step`, `give_up` and `close` belong to the model's thread; the rest may be called from
    any.

    Args:
        files: what to load.
        choices: what requests get that do not choose themselves.
        options: how to load it.
        metrics: where answers are counted.

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
        # By whether choices are greedy: confidence means something else in each.
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
        """`on`, or `off: REASON`, for requests that leave it to the server."""
        settings = self.settings({})
        return self._state(self._pacing(settings.n_draft, settings.sampling))

    def settings(self, chosen: Mapping[str, Any]) -> Settings:
        """A request's choices over the server's, over the model's own."""
        return replace(self.choices, **chosen).settings(self._default)

    def chat_text(self, turns: Sequence[Json], tools: Sequence[Json], *, think: bool) -> str:
        """A conversation as the model was trained to see it; see `ChatTemplate.render`.

        Raises:
            LocalmtpError: the model has no chat template, or it refuses the conversation.
        """
        if self._template is None:
            raise LocalmtpError(f"{self.name} has no chat template; use /v1/completions")
        if tools and not self._template.knows_tools:
            raise LocalmtpError(f"{self.name} has a chat template without tools")
        return self._template.render(turns, think=think, tools=tools)

    def text_prompt(self, text: str) -> list[int]:
        """Token ids of a text as it is, after BOS.

        Where it goes on from a recent answer, that is spelled as the model spelled it.

        Raises:
            LocalmtpError: they do not fit the context.
        """
        return prompt_tokens(self._pair, text, *self._spelled)

    def grammar(self, text: str) -> Grammar:
        """Read a grammar for this model's tokens.

        Raises:
            LocalmtpError: see `Grammar.parse`.
        """
        return Grammar.parse(self._pair.target.model, text)

    @property
    def parallel(self) -> int:
        """How many answers can be made at once."""
        return len(self._pair.targets)

    @property
    def free(self) -> int:
        """How many answers can begin."""
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
        """Let all answers go, after a pass that failed."""
        for generation in self._batching.give_up():
            self._forget(generation, "failed")

    def close(self) -> None:
        """Keep what pacing learned, and free the pair."""
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
