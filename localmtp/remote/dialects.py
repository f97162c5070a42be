"""What servers understand beyond OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one kind of server can be asked, and where it tells about its drafting."""

    extensions: Mapping[str, object] = field(default_factory=dict)
    """Fields for every request."""
    all_sampling: bool = False
    """It takes `top_k` and `min_p`."""
    goes_on: bool = False
    """It can go on with the words of the model that end a conversation."""
    takes_n_draft: bool = False
    """Clients may choose the draft length."""
    counts_on_page: bool = False
    """What it drafts stands on its Prometheus page."""


_BY_OWNER = {
    "llamacpp": Dialect(
        {"timings_per_token": True, "return_progress": True}, all_sampling=True, goes_on=True
    ),
    "localmtp": Dialect(all_sampling=True, takes_n_draft=True),
    "vllm": Dialect(
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        all_sampling=True,
        goes_on=True,
        counts_on_page=True,
    ),
}


def dialect(owner: str) -> Dialect:
    """The dialect of a server.

    Args:
        owner: `owned_by` of its models.
    """
    return _BY_OWNER.get(owner, Dialect())
