"""The pair behind the server: tokenizes prompts and decodes a batch of choices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localmtp.engine.decoding.generation import Generation, GenerationRequest
from localmtp.engine.events import Finished
from localmtp.engine.llama import Grammar
from localmtp.engine.pair import LoadOptions
from localmtp.engine.sampling.grammar import ConstrainedSampler
from localmtp.engine.sampling.sampler import Sampler, make_sampler
from localmtp.engine.text.template_editions import outdated_hint
from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.models import ModelFiles
from localmtp.serve.generation.choice import RunningChoice
from localmtp.serve.generation.facts import ModelFacts
from localmtp.serve.generation.job import Delta, Done, GenerationParams
from localmtp.serve.generation.logprobs import LogprobsSampler
from localmtp.serve.metrics import Metrics
from localmtp.serve.wire.answer_markers import answer_markers
from localmtp.session import Choices, Settings
from localmtp.session.loading import load_pair
from localmtp.session.local import default_sampling
from localmtp.session.pacing_store import pacing_store_for
from localmtp.session.prompt_cache import open_cache
from localmtp.session.prompts import (
    TokenPrompt,
    chat_template,
    media_prompt,
    place_media,
)

Json = Mapping[str, Any]

_RECENT = 2
"""Choices for each slot whose text is tokenized as the model generated it, when it returns."""


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
        self.media = files.media if files.projector else ()
        """Kinds of media that requests may have: `image`, `audio`."""
        self.why_no_media = files.why_no_projector
        self._metrics = metrics
        self._copies_only = files.lookup
        self._pair, _ = load_pair(files, options)
        self._pacing_store = pacing_store_for(files, options)
        self._loop = self._pair.decode_loop(
            self._pacing_store.load_all(), max_cached=options.host_cache_bytes
        )
        self._choices: dict[Generation, RunningChoice] = {}
        self._cache = open_cache(options, self._pair, files)
        self._earlier = self._cache.recent() if self._cache else []
        self._recent: deque[Sequence[int]] = deque(maxlen=_RECENT * self.parallel)
        """Token ids of the latest choices."""
        self._template = chat_template(self._pair)
        self.facts = ModelFacts.of(self._pair, files)
        self.hint = outdated_hint(self.facts.template, self.name)
        """One line of advice about the model's file; empty if there is none."""
        self._default = default_sampling(self._pair)
        self.markup = self._pair.target.markup
        """How the model writes thoughts and tool calls."""
        self.markers = answer_markers(self._pair.target.markup, self._token)
        """None if the model has no notation for tool calls."""
        self.context_size = self._pair.target.n_ctx
        self.vocab_size = self._pair.target.vocab.size

    @property
    def drafting(self) -> str:
        """`on` or `off: REASON`, for requests without `n_draft`."""
        settings = self.settings({})
        return self._loop.drafting_state(settings.n_draft, greedy=settings.sampling.greedy)

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template describes functions."""
        return self._template is not None and self._template.knows_tools

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

    def place(self, media: Sequence[Media]) -> None:
        """Decode images and sounds, and find the number of their tokens, which is remembered.

        The first one loads the projector.

        Raises:
            LocalmtpError: one cannot be decoded, or has too many tokens for a pass.
        """
        place_media(self._pair, media)

    def text_prompt(self, text: str, media: Sequence[Media] = ()) -> TokenPrompt:
        """Tokenize raw text, or a rendered conversation, with BOS.

        Text of a recent answer keeps the tokens that the model generated.

        Raises:
            LocalmtpError: the prompt does not fit the context.
        """
        return media_prompt(self._pair, text, media, *self._recent, *self._earlier)

    def grammar(self, text: str) -> Grammar:
        """Parse a grammar for this model's vocabulary.

        Raises:
            LocalmtpError: see `Grammar.parse`.
        """
        return Grammar.parse(self._pair.target.model, text)

    def _token(self, text: str) -> int | None:
        """Id of the token with a text; None if the vocabulary has none."""
        ids = self._pair.target.vocab.tokenize(text, special=True)
        return ids[0] if len(ids) == 1 else None

    @property
    def parallel(self) -> int:
        """Number of slots."""
        return self._pair.target.n_sequences

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self._loop.free

    def begin(self, params: GenerationParams, stopped: Callable[[], bool]) -> RunningChoice:
        """Start a choice; requires a free slot.

        Args:
            params: the request's parameters.
            stopped: called between passes; True ends the choice with `length`.
        """
        sampler: Sampler | None = None
        piece = self._pair.target.vocab.piece
        if params.grammar is not None:
            plain = make_sampler(params.sampling, params.prompt, piece)
            sampler = ConstrainedSampler(plain, params.sampling, params.grammar.clone())
        scoring = None
        if params.logprobs is not None:
            inner = sampler or make_sampler(params.sampling, params.prompt, piece)
            sampler = scoring = LogprobsSampler(inner, self._pair.target.vocab, params.logprobs)
        request = GenerationRequest(
            params.prompt,
            params.sampling,
            n_draft=params.n_draft,
            max_tokens=params.max_tokens,
            channel=params.channel,
            think_budget=params.think_budget,
            tool_calls=params.functions is not None,
            cancelled=stopped,
            sampler=sampler,
            media=params.media,
        )
        if self._cache:
            self._cache.restore(self._loop, request.prompt)
        generation = self._loop.start(request)
        generation.counters.copies_only = self._copies_only
        choice = self._choices[generation] = RunningChoice(generation, params, scoring)
        self._recent.append(choice.tokens)
        return choice

    def step(self) -> Iterator[tuple[RunningChoice, Delta | Done | LocalmtpError]]:
        """Run a prefill pass and a round for all choices.

        Yields:
            Updates of each choice; `Done` or an error is its last one.

        Raises:
            LocalmtpError: a pass failed; call `give_up`.
        """
        for generation, output in self._loop.step():
            choice = self._choices[generation]
            if isinstance(output, LocalmtpError):
                self._forget(generation, "failed")
                yield choice, output
                continue
            if isinstance(output, Finished):
                self._forget(generation, choice.reason)
            for update in choice.updates(output):
                yield choice, update

    def rest(self) -> None:
        """Save what the KV cache holds, while there is nothing to do."""
        if self._cache:
            self._cache.save(self._loop, self._pair.sequences)

    def give_up(self) -> None:
        """Abort all choices after a failed pass."""
        for generation in self._loop.cancel_all():
            self._forget(generation, "failed")

    def close(self) -> None:
        """Save the pacing data and free the pair."""
        self._pacing_store.save_all(self._loop.pacing)
        if self._cache:
            self._cache.save(self._loop, self._pair.sequences)
            self._cache.close()
        self._pair.close()

    def _forget(self, generation: Generation, reason: str) -> None:
        del self._choices[generation]
        generation.counters.drafting = generation.slot.policy.state
        self._metrics.count(generation.counters, reason)
