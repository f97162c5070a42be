"""The pair behind the server: prompts to token ids, tasks to text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localmtp.engine.events import Channel, Finished, FinishReason, Generated
from localmtp.engine.generate import Generation
from localmtp.engine.grammar import ConstrainedSampler, Grammar
from localmtp.engine.pacing import AutoPacing, FixedPacing, Pacing
from localmtp.engine.pair import LoadOptions
from localmtp.engine.pieces import PieceReader
from localmtp.engine.sampling import Sampling, make_sampler
from localmtp.engine.stats import Counters
from localmtp.errors import LocalmtpError
from localmtp.loading import load_pair
from localmtp.local_session import default_sampling, experience_of
from localmtp.models import ModelFiles
from localmtp.prompts import chat_template, prompt_tokens
from localmtp.serve.metrics import Metrics
from localmtp.serve.scoring import ScoringSampler
from localmtp.serve.stops import StopScanner
from localmtp.serve.tasks import Ended, Said, Scored, Task
from localmtp.session import Choices, Settings

Json = Mapping[str, Any]


class ServedModel:
    """A loaded pair that answers tasks one at a time.

    `updates` and `close` belong to the model's thread; the rest may be called from any.

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
        self._pair = load_pair(files, options)
        self._experience = experience_of(files, options)
        # By whether choices are greedy: confidence means something else in each.
        self._auto = {
            greedy: self._experience.recall(greedy=greedy) or AutoPacing()
            for greedy in (False, True)
        }
        self._known: list[int] = []
        self._template = chat_template(self._pair)
        self._default = default_sampling(self._pair)
        self.context_size = self._pair.target.context.n_ctx
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

        Where it goes on from the last answer, that is spelled as the model spelled it.

        Raises:
            LocalmtpError: they do not fit the context.
        """
        return prompt_tokens(self._pair, text, self._known)

    def grammar(self, text: str) -> Grammar:
        """Read a grammar for this model's tokens.

        Raises:
            LocalmtpError: see `Grammar.parse`.
        """
        return Grammar.parse(self._pair.target.model, text)

    def updates(self, task: Task, stopped: Callable[[], bool]) -> Iterator[Said | Ended]:
        """Generate one answer.

        Args:
            task: what to generate.
            stopped: asked between passes.

        Yields:
            What each pass said, then how it ended. An answer that was stopped ends as `length`.
        """
        target = self._pair.target
        counters = Counters(load_s=self._pair.load_s, context_size=self.context_size)
        sampler = make_sampler(task.sampling)
        if task.grammar is not None:
            sampler = ConstrainedSampler(sampler, task.sampling, task.grammar.clone())
        scoring = None
        if task.logprobs is not None:
            sampler = scoring = ScoringSampler(sampler, target.vocab, task.logprobs)
        pacing = self._pacing(task.n_draft, task.sampling)
        generation = Generation(
            target=target,
            drafter=self._pair.drafter,
            sampler=sampler,
            pacing=pacing,
            reader=PieceReader(target.vocab),
            counters=counters,
            max_tokens=task.max_tokens or self.context_size,
            cancelled=stopped,
        )
        self._known = known = list(task.prompt)
        stops = StopScanner(task.stops)
        reason = "cancelled"
        try:
            for event in generation.run(task.prompt):
                if isinstance(event, Generated):
                    known.extend(piece.token_id for piece in event.pieces)
                    said = _said(event, stops, scoring)
                    if said.text or said.thought or said.scores:
                        yield said
                    if stops.hit:
                        reason = "stop"
                        break
                elif isinstance(event, Finished):
                    reason = str(event.reason)
            if rest := stops.rest():
                yield Said(rest, "")
        finally:
            counters.drafting = self._state(pacing)
            self._metrics.count(counters, reason)
        yield Ended("stop" if reason == FinishReason.STOP else "length", counters.snapshot())

    def close(self) -> None:
        """Keep what pacing learned, and free the pair."""
        for greedy, pacing in self._auto.items():
            self._experience.keep(pacing, greedy=greedy)
        self._pair.close()

    def _state(self, pacing: Pacing) -> str:
        return f"off: {self._why_no_drafter}" if self._why_no_drafter else pacing.state

    def _pacing(self, n_draft: int | None, sampling: Sampling) -> Pacing:
        if self._why_no_drafter:
            return FixedPacing(0)
        return self._auto[sampling.temperature == 0] if n_draft is None else FixedPacing(n_draft)


def _said(event: Generated, stops: StopScanner, scoring: ScoringSampler | None) -> Said:
    """One pass's text up to a stop string, with the scores of the answer's tokens."""
    text, thought = "", ""
    scores: list[Scored] = []
    for piece in event.pieces:
        score = scoring.scores.popleft() if scoring else None
        if piece.channel is Channel.THOUGHT:
            thought += piece.text
            continue
        text += stops.feed(piece.text)
        if stops.hit:
            break
        if score:
            scores.append(score)
    return Said(text, thought, tuple(scores))
