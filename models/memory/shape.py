"""The part of a model's configuration that decides about its KV cache and its speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localmtp.models.gguf_header import Header

_PER_LAYER_EMBEDDING = "per_layer_token_embd"
_EXPERTS = "_exps."


@dataclass(frozen=True, slots=True)
class Shape:
    """What a target keeps per token, and reads per token.

    Widths are elements of keys and values together, for one layer and one token.
    """

    layers: int
    full_layers: tuple[int, ...]
    """Which layers have a KV cache that grows with the context, from 0."""
    full_width: int
    sliding_layers: tuple[int, ...]
    """Which layers have a KV cache of the window only; the others share one."""
    sliding_width: int
    window: int
    """Tokens that a sliding layer sees."""
    scratch: int
    """Floats of working memory for each token of a prompt batch."""
    read: float
    """Share of the file's weights that a pass with one token reads."""
    read_more: float
    """Share that every further token of a pass adds: the experts chosen for it."""


def shape_of(header: Header) -> Shape:
    """The shape of a target, from its GGUF header.

    Gemma 4's last `shared_kv_layers` layers reuse the KV cache of earlier ones. Without the
    tensor table (a header read for its settings only) every token reads everything.
    """
    layers = header.number("block_count")
    pattern = header.setting("attention.sliding_window_pattern")
    sliding = pattern if isinstance(pattern, tuple) else (False,) * layers
    heads = header.setting("attention.head_count_kv")
    heads = heads if isinstance(heads, tuple) else (heads or 0,) * layers
    own = range(min(len(sliding), len(heads), layers - header.number("attention.shared_kv_layers")))
    full = tuple(i for i in own if not sliding[i])
    slid = tuple(i for i in own if sliding[i])
    return Shape(
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
        read_more=_share_of_chosen_experts(header),
    )


def shape_from(settings: Mapping[str, float]) -> Shape:
    """The shape of a target, from the registry.

    Raises:
        KeyError: a setting is missing.
    """
    layers, period = int(settings["layers"]), int(settings["period"])
    own = range(layers - int(settings["shared"]))
    full = tuple(i for i in own if (i + 1) % period == 0)
    return Shape(
        layers=layers,
        full_layers=full,
        # Every size: 512 elements per head in full layers, 256 in sliding ones.
        full_width=int(settings["full_kv_heads"]) * 2 * 512,
        sliding_layers=tuple(i for i in own if i not in full),
        sliding_width=int(settings["kv_heads"]) * 2 * 256,
        window=int(settings["window"]),
        scratch=_scratch(
            int(settings["embedding"]),
            int(settings["feed_forward"]),
            layers * int(settings.get("per_layer_embedding", 0)),
            int(settings.get("expert_feed_forward", 0)),
        ),
        read=settings["read"],
        read_more=settings.get("read_more", 0.0),
    )


def _scratch(embedding: int, feed_forward: int, per_layer: int, experts: int) -> int:
    # Fitted to the buffers that libllama reserves for the five sizes: exact for four of them,
    # 6 % low for E2B.
    return 7 * embedding + 2 * feed_forward + per_layer + 3 * experts + 8200


def _key_and_value(header: Header, suffix: str) -> int:
    return sum(header.number(f"attention.{part}_length{suffix}") for part in ("key", "value"))


def _share_read(header: Header) -> float:
    """A token looks up one row of the per-layer embeddings and reads the experts chosen for it."""
    looked_up = sum(t.nbytes for t in header.tensors if t.name.startswith(_PER_LAYER_EMBEDDING))
    total = sum(t.nbytes for t in header.tensors) or 1
    return 1 - (looked_up + _expert_bytes(header)) / total + _share_of_chosen_experts(header)


def _share_of_chosen_experts(header: Header) -> float:
    total = sum(t.nbytes for t in header.tensors) or 1
    chosen = header.number("expert_used_count") / max(1, header.number("expert_count"))
    return chosen * _expert_bytes(header) / total


def _expert_bytes(header: Header) -> int:
    return sum(t.nbytes for t in header.tensors if _EXPERTS in t.name)
