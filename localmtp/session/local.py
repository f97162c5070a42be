"""Conversations with a pair that is loaded in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from typing import Any

from localmtp.engine.decoding.generation import GenerationRequest
from localmtp.engine.decoding.trace import Trace
from localmtp.engine.events import Channel, Event, Generated
from localmtp.engine.families import family_of
from localmtp.engine.pair import LoadOptions, Pair
from localmtp.engine.sampling.params import SamplingParams
from localmtp.engine.stats import Stats
from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.engine.text.quoting import quote
from localmtp.engine.text.retokenize import retokenize
from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.models import ModelFiles
from localmtp.session.base import Choices, Message, OnFull, Role, Session
from localmtp.session.loading import LoadReport, load_pair
from localmtp.session.pacing_store import PacingStore, pacing_store_for
from localmtp.session.prompt_cache import PromptCache, open_cache
from localmtp.session.prompts import (
    TokenPrompt,
    media_prompt,
    place_media,
    template_source,
)
from localmtp.session.ranges import violated_range
from localmtp.session.rendering import media_of, render, shown
from localmtp.session.templates import TemplateChoice
from localmtp.unicode import replace_surrogates

_FREE = 8
"""A context with less than 1/8 free for the answer counts as full."""

_CAUTION = 0.9
"""Share of the characters in excess that is dropped at a time: characters per token vary, and
dropping too much cannot be undone."""


class LocalSession(Session):
    """A conversation with a pair that is loaded in this process.

    Args:
        pair: closed by the session.
        files: of the pair.
        choices: the user's settings; the model's defaults for the rest.
        pacing_store: loads and saves what automatic pacing measured; None to start without.
        report: how the pair was loaded.
        cache: of prompts on disk; None for none.
    """

    def __init__(
        self,
        pair: Pair,
        files: ModelFiles,
        choices: Choices,
        pacing_store: PacingStore | None = None,
        report: LoadReport | None = None,
        cache: PromptCache | None = None,
    ) -> None:
        super().__init__(files.name, files.drafter_name, choices.settings(default_sampling(pair)))
        self.trace: Trace | None = None
        """Records the rounds of later answers."""
        self._pacing_store = pacing_store
        self._pair = pair
        self._cache = cache
        self._loop = pair.decode_loop(pacing_store.load_all() if pacing_store else None)
        self._copies_only = files.lookup
        self._counters = self._loop.new_counters()
        self._templates = TemplateChoice(*self.template_source)
        self._template: ChatTemplate | None = None
        self.hint = self._templates.hint(choices.template, files.name)
        if self._current_template() is None:
            self.hint = f"{files.name} has no chat template: it continues texts, as with --raw"
        report = report or LoadReport()
        self.device, self.memory, self.placement = report.device, report.memory, report.placement
        self._earlier = cache.recent() if cache else []
        self._known: list[int] = []
        """Token ids of the last prompt and its answer."""

    @property
    def drafting(self) -> str:
        """`on`, or `off: REASON`."""
        settings = self.settings
        return self._loop.drafting_state(settings.n_draft, greedy=settings.sampling.greedy)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line about each damaged file of the prompt cache."""
        return tuple(self._cache.warnings) if self._cache else ()

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template describes tools."""
        template = self._current_template()
        return template is not None and template.knows_tools

    @property
    def template(self) -> str:
        """The chat template in use, for users."""
        return self._templates.described(self.settings.template)

    @property
    def template_source(self) -> tuple[str, dict[str, str]]:
        """Source of the chat template and its tokens, see `prompts.template_source`."""
        return template_source(self._pair)

    @property
    def plain_tokens_per_s(self) -> float:
        """Tokens per second of passes without a draft, which automatic pacing measures."""
        return self._loop.plain_tokens_per_s

    def complete(self, text: str) -> Iterator[Event]:
        """Continues a raw `text`: BOS, no chat template, no history.

        Raises:
            LocalmtpError: as `ask`.
        """
        if not text:
            raise LocalmtpError("the prompt is empty", hint="give a text to continue")
        return self._generate(
            media_prompt(self._pair, replace_surrogates(text), ()), Channel.ANSWER
        )

    def stats(self) -> Stats:
        """Returns the statistics of the running answer, or of the last one."""
        return replace(self._counters.snapshot(), drafting=self.drafting)

    def prompt(self) -> str:
        """Returns the rendered prompt that would be sent to answer the conversation now.

        Raises:
            LocalmtpError: the chat template rejects the
                conversation.
        """
        return shown(self._render(self.messages), media_of(self.messages))

    def media_tokens(self, media: Media) -> int:
        """Returns the number of tokens of an image or sound; see `Session.media_tokens`."""
        return len(place_media(self._pair, [media])[0].tokens)

    def close(self) -> None:
        """Saves the pacing data and frees the pair."""
        if self._pacing_store:
            self._pacing_store.save_all(self._loop.pacing)
        if self._cache:
            self._cache.close()
        self._pair.close()

    def _reply(self, messages: Sequence[Message]) -> Iterator[Event]:
        prefix, last = "", None
        markup = self._pair.target.markup
        if messages and messages[-1].role is Role.MODEL:
            *messages, last = messages
            if last.steps:
                messages = [*messages, replace(last, text="", thought="", calls=())]
            prefix = markup.as_written(quote(last.thought), quote(last.text))
        if self.settings.on_full is OnFull.DROP:
            self._drop_excess(messages, prefix)
        text = self._render(messages)
        thought, answer = (quote(last.thought), quote(last.text)) if last else ("", "")
        text, in_thought = markup.continued(text, thought, answer)
        channel = Channel.THOUGHT if in_thought else Channel.ANSWER
        prompt = media_prompt(self._pair, text, media_of(messages), self._known, *self._earlier)
        return self._generate(prompt, channel)

    def _drop_excess(self, messages: Sequence[Message], prefix: str) -> None:
        """Drops the oldest exchanges if the conversation fills the context.

        Half of the context is freed: after each drop the rest of the prompt is prefilled again.

        Args:
            messages: the conversation, without an answer that is being continued.
            prefix: the text of that answer; may be empty.
        """
        n_ctx = self._pair.target.n_ctx
        most = n_ctx - n_ctx // _FREE
        vocab = self._pair.target.vocab
        while True:
            text = self._render(messages) + prefix
            placed = place_media(self._pair, media_of(messages))
            ids = [each.tokens for each in placed]
            used = len(retokenize(vocab, text, self._known, media=ids))
            if used <= most:
                return
            most = n_ctx // 2
            # Estimated from characters, because tokenizing a long conversation is slow.
            rows = sum(map(len, ids))
            per_token = len(text) / max(1, used - rows)
            spare = int(_CAUTION * per_token * (used - most))
            lengths = {each.media.key: int(per_token * each.rows) for each in placed}
            if not _drop_oldest(messages, spare, lengths):
                return

    def _render(self, messages: Sequence[Message]) -> str:
        template = self._current_template()
        return render(template, self.name, messages, self.settings, self.tools)

    def _current_template(self) -> ChatTemplate | None:
        """Returns the chat template of the settings, and follows its markers.

        Raises:
            LocalmtpError: see `TemplateChoice.current`.
        """
        template = self._templates.current(self.settings.template)
        if template is not self._template:
            self._template = template
            self._pair.target.use_template(template.source if template else "")
        return template

    def _generate(self, prompt: TokenPrompt, channel: Channel) -> Iterator[Event]:
        self._cancelled = threading.Event()
        self._counters = self._loop.new_counters()
        self._counters.copies_only = self._copies_only
        self._counters.count_placed(prompt.placed_s)
        settings = self.settings
        request = GenerationRequest(
            prompt.tokens,
            settings.sampling,
            n_draft=settings.n_draft,
            max_tokens=settings.max_tokens,
            channel=channel,
            tool_calls=bool(self.tools),
            think_budget=settings.think_budget,
            cancelled=self._cancelled.is_set,
            trace=self.trace,
            counters=self._counters,
            media=prompt.media,
        )
        self._known = list(prompt.tokens)
        if self._cache:
            self._cache.restore(self._loop, prompt.tokens)
        return self._remember(self._loop.run(request))

    def _remember(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Generated):
                self._known.extend(piece.token_id for piece in event.pieces if piece.token_id >= 0)
            yield event
        if self._cache:
            self._cache.save(self._loop, self._pair.sequences)


def default_sampling(pair: Pair) -> SamplingParams:
    """Returns the GGUF's recommended sampling (`general.sampling.*`), else that of its family.

    A recommendation that is not a number, or out of range, is ignored.
    """
    metadata = pair.target.model.metadata
    family = family_of(pair.target.model.architecture, metadata.get("general.name", ""))
    chosen: dict[str, Any] = dict(family.sampling)
    for key, (name, kind) in _RECOMMENDED.items():
        with suppress(KeyError, ValueError, OverflowError):
            value = kind(float(metadata[f"general.sampling.{key}"]))
            if not violated_range(name, value):
                chosen[name] = value
    return SamplingParams(**chosen)


_RECOMMENDED: dict[str, tuple[str, type[float]]] = {
    "temp": ("temperature", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
}
"""Fields of `SamplingParams` and their types, by the keys of GGUF."""


def _drop_oldest(messages: Sequence[Message], characters: int, media: Mapping[str, int]) -> bool:
    """Drops the oldest exchanges with at most `characters` in total: at least one, never the last.

    Args:
        messages: the conversation.
        characters: the largest total length.
        media: lengths of images and sounds, in characters of as many tokens, by their key.

    Returns:
        False if only one exchange was left.
    """
    present = [m for m in messages if not m.dropped]
    starts = [i for i, m in enumerate(present) if i and m.role is Role.USER]
    lengths = list(
        accumulate(len(m.text) + sum(media.get(each.key, 0) for each in m.media) for m in present)
    )
    first = max((i for i in starts if lengths[i - 1] <= characters), default=min(starts, default=0))
    for message in present[:first]:
        message.dropped = True
    return first > 0


def open_session(
    files: ModelFiles, choices: Choices | None = None, options: LoadOptions | None = None
) -> LocalSession:
    """Loads a pair and starts a conversation with it.

    Raises:
        LocalmtpError: see `load_pair`.
    """
    options = options or LoadOptions()
    pair, report = load_pair(files, options)
    store = pacing_store_for(files, options)
    cache = open_cache(options, pair, files)
    return LocalSession(pair, files, choices or Choices(), store, report, cache)
