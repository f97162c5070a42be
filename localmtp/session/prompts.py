"""Prompts of a loaded pair: its chat template, and text as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from localmtp.engine.media import PlacedMedia
from localmtp.engine.pair import Pair
from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.engine.text.retokenize import retokenize
from localmtp.errors import LocalmtpError
from localmtp.media import Media
from localmtp.models.files import NO_MEDIA


def template_source(pair: Pair) -> tuple[str, dict[str, str]]:
    """Returns the target's chat template, empty if it has none, and texts of `bos` and `eos`."""
    vocab = pair.target.vocab
    ids = {"bos": vocab.bos, "eos": vocab.eos}
    tokens = {
        name: vocab.piece(token, special=True).decode(errors="replace") if token >= 0 else ""
        for name, token in ids.items()
    }
    return pair.target.model.metadata.get("tokenizer.chat_template", ""), tokens


def chat_template(pair: Pair) -> ChatTemplate | None:
    """Returns the target's compiled chat template; None if it has none.

    Raises:
        LocalmtpError: the template is not valid.
    """
    source, tokens = template_source(pair)
    return ChatTemplate(source, **tokens) if source else None


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt as the decode loop takes it."""

    tokens: list[int]
    """Token ids; those below 0 are rows of `media`."""
    media: tuple[PlacedMedia, ...] = ()
    placed_s: float = 0.0
    """Time that decoding the media took, and loading the projector for the first one."""


def prompt_tokens(pair: Pair, text: str, *known: Sequence[int]) -> list[int]:
    """Tokenizes a prompt without media; see `media_prompt`."""
    return media_prompt(pair, text, (), *known).tokens


def media_prompt(
    pair: Pair, text: str, media: Sequence[Media], *known: Sequence[int]
) -> TokenPrompt:
    """Tokenizes a prompt, with exactly one BOS. Nothing is encoded.

    Args:
        pair: its target's vocabulary is used, and its projector for media.
        text: the rendered prompt.
        media: images and sounds, for the marks in the text, see `media_marks`.
        known: token ids of earlier prompts and answers, see `retokenize`.

    Raises:
        LocalmtpError: the prompt leaves no position in the context for an answer, or the pair does
            not read such media.
    """
    n_ctx = pair.target.n_ctx
    began = perf_counter()
    placed = place_media(pair, media)
    placed_s = perf_counter() - began if placed else 0.0
    tokens = retokenize(pair.target.vocab, text, *known, media=[each.tokens for each in placed])
    if len(tokens) >= n_ctx:
        rows = sum(each.rows for each in placed)
        raise LocalmtpError(
            f"the prompt has {len(tokens)} tokens"
            + (f", {rows} of them images and sound," if rows else "")
            + f" and the context {n_ctx}",
            hint=_context_hint(len(tokens), n_ctx, pair.target.model.n_ctx_train),
        )
    return TokenPrompt(tokens, placed, placed_s)


def place_media(pair: Pair, media: Sequence[Media]) -> tuple[PlacedMedia, ...]:
    """Returns images and sounds as parts of a prompt; the first one loads the projector.

    Raises:
        LocalmtpError: the pair does not read such media, or they cannot be decoded.
    """
    if not media:
        return ()
    if pair.media is None:
        raise LocalmtpError(
            f"images and sound need a projector, and {pair.target.model.path.name} has none"
            + (f": {pair.no_media}" if pair.no_media else ""),
            hint=f"leave out `{NO_MEDIA}`"
            if pair.no_media == NO_MEDIA
            else "name its file with `--mmproj FILE`",
        )
    return tuple(map(pair.media.place, media))


def _context_hint(needed: int, n_ctx: int, limit: int) -> str:
    """Proposes a context with space for an answer, never one that the model would refuse."""
    if needed >= limit:
        return f"shorten it: the model's largest context has {limit} tokens"
    larger = n_ctx
    while larger < needed + needed // 4:
        larger *= 2
    return f"a larger context, if the memory allows: --ctx {min(larger, limit)}"
