"""Extensions of OpenAI's API, by server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Dialect:
    """Extensions of one kind of server, and where it reports drafting."""

    extensions: Mapping[str, object] = field(default_factory=dict)
    """Fields to add to every request."""
    all_sampling: bool = False
    """Accepts `top_k` and `min_p`."""
    continues: bool = False
    """Can continue an assistant message at the end of the conversation."""
    takes_n_draft: bool = False
    """Accepts `n_draft`."""
    no_limit: Mapping[str, object] = field(default_factory=dict)
    """Fields of a completion without a limit, where the default is a few tokens."""
    has_draft_metrics: bool = False
    """Reports drafting on its Prometheus page."""
    takes_thoughts: bool = False
    """Accepts `reasoning_content` in messages."""
    takes_on_repeat: bool = False
    """Accepts `on_repeat`."""


_BY_OWNER = {
    "llamacpp": Dialect(
        {"timings_per_token": True, "return_progress": True},
        all_sampling=True,
        continues=True,
        takes_thoughts=True,
    ),
    "localmtp": Dialect(
        all_sampling=True,
        continues=True,
        takes_n_draft=True,
        no_limit={"max_tokens": -1},
        takes_thoughts=True,
        takes_on_repeat=True,
    ),
    "vllm": Dialect(
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        all_sampling=True,
        continues=True,
        no_limit={"max_tokens": None},
        has_draft_metrics=True,
        takes_thoughts=True,
    ),
}


def dialect(owner: str) -> Dialect:
    """Look up the dialect of a server.

    Args:
        owner: `owned_by` of its models.
    """
    return _BY_OWNER.get(owner, Dialect())
