"""Prompts of a loaded pair: its chat template, and text as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.engine.pair import Pair
from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.engine.text.retokenize import retokenize
from localmtp.errors import LocalmtpError


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


def prompt_tokens(pair: Pair, text: str, *known: Sequence[int]) -> list[int]:
    """Tokenizes a prompt, with exactly one BOS.

    Args:
        pair: its target's vocabulary is used.
        text: the rendered prompt.
        known: token ids of earlier prompts and answers, see `retokenize`.

    Raises:
        LocalmtpError: the prompt leaves no position in the context for an answer.
    """
    vocab, n_ctx = pair.target.vocab, pair.target.n_ctx
    tokens = retokenize(vocab, text, *known)
    if len(tokens) >= n_ctx:
        raise LocalmtpError(
            f"the prompt has {len(tokens)} tokens and the context {n_ctx}",
            hint=_context_hint(len(tokens), n_ctx, pair.target.model.n_ctx_train),
        )
    return tokens


def _context_hint(needed: int, n_ctx: int, limit: int) -> str:
    """Proposes a context with space for an answer, never one that the model would refuse."""
    if needed >= limit:
        return f"shorten it: the model's largest context has {limit} tokens"
    larger = n_ctx
    while larger < needed + needed // 4:
        larger *= 2
    return f"a larger context, if the memory allows: --ctx {min(larger, limit)}"
