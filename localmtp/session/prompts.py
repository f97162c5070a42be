"""What a pair is prompted with: its own template, and text as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from localmtp.engine.pair import Pair
from localmtp.engine.text.chat_template import ChatTemplate
from localmtp.engine.text.retokenize import retokenize
from localmtp.errors import LocalmtpError


def template_source(pair: Pair) -> tuple[str, str]:
    """The target's own template, empty for a model that has none, and what it prints for BOS."""
    vocab = pair.target.vocab
    bos = vocab.piece(vocab.bos, special=True).decode()
    return pair.target.model.metadata.get("tokenizer.chat_template", ""), bos


def chat_template(pair: Pair) -> ChatTemplate | None:
    """The target's own; None for a model that has none.

    Raises:
        LocalmtpError: the template is not valid.
    """
    source, bos = template_source(pair)
    return ChatTemplate(source, bos=bos) if source else None


def prompt_tokens(pair: Pair, text: str, *known: Sequence[int]) -> list[int]:
    """Token ids with BOS exactly once.

    Args:
        pair: whose target is prompted.
        text: the prompt.
        known: see `spell`.

    Raises:
        LocalmtpError: they leave no room in the context for an answer.
    """
    vocab, n_ctx = pair.target.vocab, pair.target.n_ctx
    tokens = retokenize(vocab, text, *known)
    if len(tokens) >= n_ctx:
        raise LocalmtpError(
            f"the prompt has {len(tokens)} tokens and the context {n_ctx}",
            hint=f"a larger context, if the model and the memory allow: --ctx {2 * n_ctx}",
        )
    return tokens
