"""Dimensions of a model that decide the size of its KV cache and the speed of a pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from localmtp.engine.compatibility import HEADS, heads_run
from localmtp.engine.families import family_of
from localmtp.engine.recurrent import state_bytes
from localmtp.models.gguf_header import Header, Scalar

_PER_LAYER_EMBEDDING = "per_layer_token_embd"
_EXPERTS = "_exps."

_FULL_HEAD, _SLIDING_HEAD = 512, 256
"""Head dimensions of full and sliding layers, the same in every size of Gemma 4."""

_HYBRID_HEAD, _STATE, _CONVOLUTION = 256, 128, 3
"""Head dimensions of full and recurrent layers, and tokens that a convolution remembers, the same
in every size of Qwen 3.5."""

_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
_BLOCK = re.compile(r"blk\.(\d{1,4})\.")


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
    recurrent_layers: tuple[int, ...] = ()
    """Indices of the layers with a recurrent state instead of a KV cache."""
    state: int = 0
    """Bytes of the recurrent states of one sequence, once."""
    multiaxial: bool = False
    """Whether images have positions on several axes (M-RoPE)."""
    heads: int = 0
    """MTP heads in the file that libllama runs. Each has a context, with a KV cache for all of
    them."""
    head_width: int = 0
    """Width of the KV cache of an MTP head, in the file or in one of its own, which has the whole
    context; 0 for models that have none."""
    head_scratch: int = 0
    """Floats of working memory per row of a batch of the MTP head."""
    head_read: float = 0.0
    """Share of the weights read by a draft step of an MTP head in the file: the head, and the
    output matrix, which it shares with the target."""


def shape_of(header: Header) -> ModelShape:
    """Derives the shape of a target from its GGUF header.

    The last `shared_kv_layers` layers of Gemma 4 reuse the KV cache of earlier ones. MTP heads
    count as layers, and are run by their own context. Without tensor table (a header read with
    `settings_only`), each token counts as reading all weights.
    """
    layers, n_heads = header.number("block_count"), header.number("nextn_predict_layers")
    sliding = _sliding(header, layers)
    heads = header.setting("attention.head_count_kv") or header.setting("attention.head_count")
    heads = heads if isinstance(heads, tuple) else (heads or 0,) * layers
    shared = header.number("attention.shared_kv_layers")
    if shared:
        n_heads = 0  # layers of an assistant, which has no others
    has_head = header.architecture in HEADS
    own = range(min(len(sliding), len(heads), layers - shared - n_heads))
    recurrent = _recurrent(header, layers - n_heads)
    full = tuple(i for i in own if not sliding[i] and i not in recurrent and heads[i])
    slid = tuple(i for i in own if sliding[i])
    width = int(heads[full[0]]) * _key_and_value(header, "") if full else 0
    experts = header.number("expert_used_count") * header.number("expert_feed_forward_length")
    return ModelShape(
        layers=layers,
        full_layers=full,
        full_width=width,
        sliding_layers=slid,
        sliding_width=int(heads[slid[0]]) * _key_and_value(header, "_swa") if slid else 0,
        window=header.number("attention.sliding_window"),
        scratch=_scratch_of(header, layers, experts),
        read=_share_read(header),
        read_more=_share_of_routed_experts(header),
        experts=_expert_bytes(header) / (sum(t.nbytes for t in header.tensors) or 1),
        recurrent_layers=recurrent,
        state=state_bytes(header.number) if recurrent else 0,
        multiaxial=is_multiaxial(header),
        heads=heads_run(header.architecture, n_heads),
        head_width=width if has_head else 0,
        head_scratch=_head_scratch_of(header, experts) if has_head else 0,
        head_read=_share_of_head(header) if n_heads and has_head else 0.0,
    )


def is_multiaxial(header: Header) -> bool:
    """Reports whether images of a target have positions on several axes (M-RoPE)."""
    return header.number("rope.dimension_sections") > 0


def _recurrent(header: Header, layers: int) -> tuple[int, ...]:
    """Indices of layers with a recurrent state, as `recurrent_layers` or the interval says."""
    pattern = header.setting("attention.recurrent_layers")
    if isinstance(pattern, tuple):
        return tuple(i for i, recurrent in enumerate(pattern[:layers]) if recurrent)
    period = header.number("full_attention_interval")
    return tuple(i for i in range(layers) if period and (i + 1) % period)


def _scratch_of(header: Header, layers: int, experts: int) -> int:
    embedding, inner = header.number("embedding_length"), header.number("ssm.inner_size")
    feed_forward = header.number("feed_forward_length")
    if inner:
        queries = header.number("attention.head_count") * header.number("attention.key_length")
        convolved = inner + 2 * header.number("ssm.group_count") * header.number("ssm.state_size")
        return _hybrid_scratch(embedding, feed_forward, experts, queries, inner, convolved)
    per_layer = layers * header.number("embedding_length_per_layer_input")
    return _scratch(embedding, feed_forward, per_layer, experts)


def _head_scratch_of(header: Header, experts: int) -> int:
    queries = header.number("attention.head_count") * header.number("attention.key_length")
    embedding, feed_forward = (
        header.number("embedding_length"),
        header.number("feed_forward_length"),
    )
    return _hybrid_scratch(embedding, feed_forward, experts, queries, 0, 0)


def shape_from_registry(settings: Mapping[str, float]) -> ModelShape:
    """Derives the shape of a target from its `shape` table in the registry.

    Raises:
        KeyError: a setting is missing.
    """
    if "value_heads" in settings:
        return _hybrid_from_registry(settings)
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


def _hybrid_from_registry(settings: Mapping[str, float]) -> ModelShape:
    """Derives the shape of a Qwen 3.5 with its MTP head, which counts as the last layer."""
    layers, period = int(settings["layers"]), int(settings["period"])
    full = tuple(i for i in range(layers - 1) if (i + 1) % period == 0)
    recurrent = tuple(i for i in range(layers - 1) if (i + 1) % period)
    width = int(settings["kv_heads"]) * 2 * _HYBRID_HEAD
    inner = int(settings["value_heads"]) * _STATE
    convolved = inner + 2 * int(settings["key_heads"]) * _STATE
    experts = int(settings.get("expert_feed_forward", 0))
    sizes = int(settings["embedding"]), int(settings.get("feed_forward", 0)), experts
    queries = int(settings["heads"]) * _HYBRID_HEAD
    return ModelShape(
        layers=layers,
        multiaxial=True,
        full_layers=full,
        full_width=width,
        sliding_layers=(),
        sliding_width=0,
        window=0,
        scratch=_hybrid_scratch(*sizes, queries, inner, convolved),
        read=settings["read"],
        read_more=settings.get("read_more", 0.0),
        experts=settings.get("experts", 0.0),
        recurrent_layers=recurrent,
        state=4 * len(recurrent) * (inner * _STATE + _CONVOLUTION * convolved),
        heads=1,
        head_width=width,
        head_scratch=_hybrid_scratch(*sizes, queries, 0, 0),
        head_read=settings["head_read"],
    )


def _hybrid_scratch(
    embedding: int, feed_forward: int, experts: int, queries: int, inner: int, convolved: int
) -> int:
    # Fitted to the buffers that libllama reserves for Qwen 3.5's sizes: within 1 % for the target.
    attention = 5 * embedding + 2 * feed_forward + queries
    if experts:
        attention = 8 * embedding + 3 * experts + 8200
    return max(attention, 3 * convolved + inner + embedding)


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
    """A token reads one row of the embeddings, and the experts routed to.

    Embeddings that are the output matrix too are read as such. A pass of the target reads no MTP
    head.
    """
    looked_up = sum(t.nbytes for t in header.tensors if t.name.startswith(_PER_LAYER_EMBEDDING))
    if any(t.name == _OUTPUT for t in header.tensors):
        looked_up += sum(t.nbytes for t in header.tensors if t.name == _EMBEDDING)
    total = sum(t.nbytes for t in header.tensors) or 1
    unread = looked_up + _expert_bytes(header) + _head_bytes(header, with_experts=False)
    return 1 - unread / total + _share_of_routed_experts(header)


def _share_of_head(header: Header) -> float:
    """A draft step reads the head, of its experts those routed to, and the output matrix."""
    total = sum(t.nbytes for t in header.tensors) or 1
    named = {t.name: t.nbytes for t in header.tensors}
    output = named.get(_OUTPUT, named.get(_EMBEDDING, 0))
    plain = _head_bytes(header, with_experts=False)
    experts = _head_bytes(header, with_experts=True) - plain
    routed = header.number("expert_used_count") / max(1, header.number("expert_count"))
    return (plain + routed * experts + output) / total


def _head_bytes(header: Header, *, with_experts: bool) -> int:
    """Bytes of the layers of an MTP head in the file."""
    if header.number("attention.shared_kv_layers"):
        return 0
    first = header.number("block_count") - header.number("nextn_predict_layers")
    return sum(
        tensor.nbytes
        for tensor in header.tensors
        if (block := _BLOCK.match(tensor.name))
        and int(block[1]) >= first
        and (with_experts or _EXPERTS not in tensor.name)
    )


def _share_of_routed_experts(header: Header) -> float:
    total = sum(t.nbytes for t in header.tensors) or 1
    routed = header.number("expert_used_count") / max(1, header.number("expert_count"))
    return routed * _expert_bytes(header) / total


def _expert_bytes(header: Header) -> int:
    return sum(t.nbytes for t in header.tensors if _EXPERTS in t.name)
