"""Settings that a request chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmtp.engine.sampling.params import OnRepeat
from localmtp.serve.errors import APIError
from localmtp.serve.wire.requests import ChatRequest, CompletionRequest


def chosen_settings(body: ChatRequest | CompletionRequest, n_vocab: int) -> dict[str, Any]:
    """Fields of `Choices` that a request gives.

    Args:
        body: the request.
        n_vocab: tokens of the vocabulary.

    Raises:
        APIError: a key of `logit_bias` is not a token id.
    """
    chosen: dict[str, Any] = {
        name: value
        for name in (
            *("temperature", "top_k", "top_p", "min_p"),
            *("presence_penalty", "frequency_penalty", "repeat_penalty"),
            *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
        )
        if (value := getattr(body, name)) is not None
    }
    if chosen.get("top_k") == -1:
        chosen["top_k"] = 0
    if body.repetition_penalty is not None:
        chosen["repeat_penalty"] = body.repetition_penalty
    if body.dry_sequence_breakers is not None:
        chosen["dry_sequence_breakers"] = tuple(filter(None, body.dry_sequence_breakers))
    if body.on_repeat is not None:
        chosen["on_repeat"] = OnRepeat(body.on_repeat)
    if body.logit_bias:
        chosen["logit_bias"] = _logit_bias(body.logit_bias, n_vocab)
    if body.seed is not None:
        chosen["seed"] = body.seed % 2**64
    if body.n_draft is not None:
        chosen["n_draft"] = None if body.n_draft == "auto" else body.n_draft
    return chosen


def _logit_bias(biases: Mapping[str, float], n_vocab: int) -> tuple[tuple[int, float], ...]:
    """Read biases by token id.

    Raises:
        APIError: a key is not a token id.
    """
    for token in biases:
        known = token.isascii() and token.isdigit() and len(token) < 12 and int(token) < n_vocab
        if not known:
            raise APIError(400, f"{token[:50]!r} is not a token id", param="logit_bias")
    return tuple((int(token), bias) for token, bias in biases.items())
