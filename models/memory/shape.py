"""Dimensions of a model that decide the size of its KV cache and the speed of a pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localmtp.engine.families import family_of
from localmtp.models.gguf_header import Header, Scalar

_PER_LAYER_EMBEDDING = "per_layer_token_embd"
_EXPERTS = "_exps."

_FULL_HEAD, _SLIDING_HEAD = 512, 256
"""Head dimensions of full and sliding layers, the same in every size of Gemma 4."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of a target.

    Widths are elements of keys and values together, per layer and token.
    """

    layers: int
    full_layers: tuple[int, ...]
    """Indices of the layers with a KV cache for the whole context."""
    full_width: int
    sliding_layers: tuple[int, ...]
    """Indices of the layers with a KV cache for the window; all others reuse one of these."""
    sliding_width: int
    window: int
    """Sliding window in tokens."""
    scratch: int
    """Floats of working memory per row of a batch."""
    read: float
    """Share of the weights read by a pass of one token."""
    read_more: float
    """Share added by each further token of a pass: the experts routed to for it."""
    experts: float = 0.0
    """Share of the weights that are experts."""


def shape_of(header: Header) -> ModelShape:
    """Derives the shape of a target from its GGUF header.

    The last `shared_kv_layers` layers of Gemma 4 reuse the KV cache of earlier ones. Without
    tensor table (a header read with `settings_only`), each token counts as reading all weights.
    """
    layers = header.number("block_count")
    sliding = _sliding(header, layers)
    heads = header.setting("attention.head_count_kv") or header.setting("attention.head_count")
    heads = heads if isinstance(heads, tuple) else (heads or 0,) * layers
    own = range(min(len(sliding), len(heads), layers - header.number("attention.shared_kv_layers")))
    full = tuple(i for i in own if not sliding[i])
    slid = tuple(i for i in own if sliding[i])
    return ModelShape(
        layers=layers,
        full_layers=full,
        full_width=int(heads[full[0]]) * _key_and_value(header, "") if full else 0,
        sliding_layers=slid,
        sliding_width=int(heads[slid[0]]) * _key_and_value(header, "_swa") if slid else 0,
        window=header.number("attention.sliding_window"),
        scratch=_scratch(
            header.number("embedding_length"),
            header.number("feed_forward_length"),
            layers * header.number("embedding_length_per_layer_input"),
            header.number("expert_used_count") * header.number("expert_feed_forward_length"),
        ),
        read=_share_read(header),
        read_more=_share_of_routed_experts(header),
        experts=_expert_bytes(header) / (sum(t.nbytes for t in header.tensors) or 1),
    )


def shape_from_registry(settings: Mapping[str, float]) -> ModelShape:
    """Derives the shape of a target from its `shape` table in the registry.

    Raises:
        KeyError: a setting is missing.
    """
    layers, period = int(settings["layers"]), int(settings["period"])
    own = range(layers - int(settings["shared"]))
    full = tuple(i for i in own if (i + 1) % period == 0)
    return ModelShape(
        layers=layers,
        full_layers=full,
        full_width=int(settings["full_kv_heads"]) * 2 * _FULL_HEAD,
        sliding_layers=tuple(i for i in own if i not in full),
        sliding_width=int(settings["kv_heads"]) * 2 * _SLIDING_HEAD,
        window=int(settings["window"]),
        scratch=_scratch(
            int(settings["embedding"]),
            int(settings["feed_forward"]),
            layers * int(settings.get("per_layer_embedding", 0)),
            int(settings.get("expert_feed_forward", 0)),
        ),
        read=settings["read"],
        read_more=settings.get("read_more", 0.0),
        experts=settings.get("experts", 0.0),
    )


def _scratch(embedding: int, feed_forward: int, per_layer: int, experts: int) -> int:
    # Fitted to the buffers that libllama reserves for the five sizes: exact for four of them,
    # 6 % low for E2B.
    return 7 * embedding + 2 * feed_forward + per_layer + 3 * experts + 8200


def _sliding(header: Header, layers: int) -> tuple[Scalar, ...]:
    """Which layers have a sliding window, as the header or the architecture says."""
    pattern = header.setting("attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return pattern
    period = pattern if isinstance(pattern, int) else family_of(header.architecture).window_period
    if not header.number("attention.sliding_window") or period < 1:
        return (False,) * layers
    return tuple((i + 1) % period != 0 for i in range(layers))


def _key_and_value(header: Header, suffix: str) -> int:
    """Elements of a head's key and value; usually those of the embedding shared by all heads."""
    usual = header.number("embedding_length") // max(1, header.number("attention.head_count"))
    total = 0
    for part in ("key", "value"):
        full = header.number(f"attention.{part}_length", usual)
        total += header.number(f"attention.{part}_length{suffix}", full)
    return total


def _share_read(header: Header) -> float:
    """A token reads one row of the per-layer embeddings, and the experts routed to."""
    looked_up = sum(t.nbytes for t in header.tensors if t.name.startswith(_PER_LAYER_EMBEDDING))
    total = sum(t.nbytes for t in header.tensors) or 1
    return 1 - (looked_up + _expert_bytes(header)) / total + _share_of_routed_experts(header)


def _share_of_routed_experts(header: Header) -> float:
    total = sum(t.nbytes for t in header.tensors) or 1
    routed = header.number("expert_used_count") / max(1, header.number("expert_count"))
    return routed * _expert_bytes(header) / total


def _expert_bytes(header: Header) -> int:
    return sum(t.nbytes for t in header.tensors if _EXPERTS in t.name)
