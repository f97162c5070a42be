"""Generated GGUF pairs of every Gemma 4 shape: tiny ones that run, and full-sized hollow ones.

Metadata and tensors match the published files; weights are random or, in hollow files, sparse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}<|turn>{{ m.role.replace('assistant', 'model') }}\n"
    "{{ m.content }}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)
_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|tool_response>")
_CONTROL, _BYTE, _NORMAL = 3, 6, 1

Tensor = tuple[str, tuple[int, ...], Kind]


@dataclass(frozen=True)
class Size:
    """Shape of a target and its drafter."""

    layers: int
    period: int
    embedding: int
    heads: int
    kv_heads: int
    full_kv_heads: int
    feed_forward: int
    window: int
    context: int
    drafter: tuple[int, int, int]
    """Embedding length, heads, feed-forward length."""
    head: int = 256
    full_head: int = 512
    shared: int = 0
    per_layer: int = 0
    wide_from: int | None = None
    """First layer with a feed forward of twice the width."""
    k_is_v: bool = True
    """Full-attention layers have no V projection."""
    experts: tuple[int, int, int] = (0, 0, 0)
    """Number of experts, experts used per token, feed-forward length of each."""
    vocab: int = 512

    def slides(self, layer: int) -> bool:
        """Reports whether a layer attends to the sliding window only."""
        return (layer + 1) % self.period != 0


# The published configurations with a smaller vocabulary, on which no buffer of a pass depends.
REAL = {
    "gemma4-e2b": Size(35, 5, 1536, 8, 1, 1, 6144, 512, 131072, (256, 4, 2048),
                       shared=20, per_layer=256, wide_from=15, k_is_v=False),
    "gemma4-e4b": Size(42, 6, 2560, 8, 2, 2, 10240, 512, 131072, (256, 4, 2048),
                       shared=18, per_layer=256, k_is_v=False),
    "gemma4-12b": Size(48, 6, 3840, 16, 8, 1, 15360, 1024, 262144, (1024, 16, 8192)),
    "gemma4-26b-a4b": Size(30, 6, 2816, 16, 8, 2, 2112, 1024, 262144, (1024, 16, 8192),
                           experts=(128, 8, 704)),
    "gemma4-31b": Size(60, 6, 5376, 32, 16, 4, 21504, 1024, 262144, (1024, 32, 8192)),
}  # fmt: skip

_TINY = Size(6, 3, 64, 4, 2, 1, 128, 16, 1024, (32, 4, 64), head=32, full_head=64)
TINY = {
    "dense": _TINY,
    "e": replace(_TINY, kv_heads=1, shared=3, per_layer=32, wide_from=3, k_is_v=False),
    "moe": replace(_TINY, feed_forward=96, experts=(8, 2, 32)),
}


def write_pair(
    size: Size, target: Path, drafter: Path, *, name: str = "Tiny", hollow: bool = False
) -> None:
    """Writes both files; `hollow` ones are in Q4_0 and sparse, so weights take no disk space."""
    kind = Kind.Q4_0 if hollow else Kind.F32
    write_target(size, target, name=name, kind=kind)
    write_drafter(size, drafter, name=f"{name} Assistant", kind=kind)


def write_target(
    size: Size,
    path: Path,
    *,
    name: str = "Tiny",
    kind: Kind = Kind.F32,
    original: str = "",
) -> None:
    """Writes a target; `original` is the address of the checkpoint that it names."""
    writer = gguf.GGUFWriter(None, "gemma4")
    layers = range(size.layers)
    pattern = [size.slides(i) for i in layers]
    heads = [size.kv_heads if slides else size.full_kv_heads for slides in pattern]
    wide = size.layers if size.wide_from is None else size.wide_from
    _settings(writer, size, name, (size.layers, size.embedding, size.heads), pattern, heads)
    writer.add_feed_forward_length([size.feed_forward * (1 + (i >= wide)) for i in layers])
    writer.add_shared_kv_layers(size.shared)
    writer.add_embedding_length_per_layer_input(size.per_layer)
    writer.add_final_logit_softcapping(30.0)
    if size.experts[0]:
        writer.add_expert_count(size.experts[0])
        writer.add_expert_used_count(size.experts[1])
        writer.add_expert_feed_forward_length(size.experts[2])
    writer.add_chat_template(TEMPLATE)
    if original:
        writer.add_base_model_repo_url(0, original)
    _vocabulary(writer, size.vocab)
    _write(writer, path, list(_target_tensors(size, kind)))


def write_drafter(
    size: Size,
    path: Path,
    *,
    name: str = "Tiny Assistant",
    kind: Kind = Kind.F32,
    architecture: str = "gemma4-assistant",
) -> None:
    """Writes a drafter: three sliding-window layers and a full-attention one."""
    writer = gguf.GGUFWriter(None, architecture)
    embedding, heads, feed_forward = size.drafter
    pattern = [True, True, True, False]
    kv_heads = [size.kv_heads] * 3 + [size.full_kv_heads]
    _settings(writer, size, name, (4, embedding, heads), pattern, kv_heads)
    writer.add_feed_forward_length(feed_forward)
    writer.add_embedding_length_out(size.embedding)
    writer.add_nextn_predict_layers(4)
    writer.add_shared_kv_layers(4)
    _vocabulary(writer, size.vocab)
    tensors: list[Tensor] = [
        ("token_embd.weight", (size.vocab, embedding), kind),
        ("output_norm.weight", (embedding,), Kind.F32),
        ("rope_freqs.weight", (size.full_head // 2,), Kind.F32),
        ("nextn.pre_projection.weight", (embedding, 2 * size.embedding), kind),
        ("nextn.post_projection.weight", (size.embedding, embedding), kind),
    ]
    for i, slides in enumerate(pattern):
        head = size.head if slides else size.full_head
        tensors += _layer(i, embedding, heads * head, head, feed_forward, kind)
    _write(writer, path, tensors)


def _settings(
    writer: gguf.GGUFWriter,
    size: Size,
    name: str,
    dimensions: tuple[int, int, int],
    pattern: Sequence[bool],
    kv_heads: Sequence[int],
) -> None:
    layers, embedding, heads = dimensions
    writer.add_name(name)
    writer.add_block_count(layers)
    writer.add_context_length(size.context)
    writer.add_embedding_length(embedding)
    writer.add_head_count(heads)
    writer.add_head_count_kv(list(kv_heads))
    writer.add_key_length(size.full_head)
    writer.add_value_length(size.full_head)
    writer.add_key_length_swa(size.head)
    writer.add_value_length_swa(size.head)
    writer.add_rope_dimension_count(size.full_head)
    writer.add_rope_dimension_count_swa(size.head)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_freq_base_swa(1e4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(size.window)
    writer.add_sliding_window_pattern(list(pattern))


def _vocabulary(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [_CONTROL] * len(_SPECIAL) + [_BYTE] * 256
    words = [f"word{i}" for i in range(n_vocab - len(tokens))]
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list([*tokens, *words])
    writer.add_token_scores([-1000.0] * n_vocab)
    writer.add_token_types([*kinds, *[_NORMAL] * len(words)])
    writer.add_token_merges(["w o", "wo r"])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _target_tensors(size: Size, kind: Kind) -> Iterator[Tensor]:
    n, v = size.embedding, size.vocab
    yield from (
        ("token_embd.weight", (v, n), kind),
        ("output_norm.weight", (n,), Kind.F32),
        ("rope_freqs.weight", (size.full_head // 2,), Kind.F32),
    )
    if size.per_layer:
        width = size.layers * size.per_layer
        yield "per_layer_token_embd.weight", (v, width), kind
        yield "per_layer_model_proj.weight", (width, n), Kind.BF16
        yield "per_layer_proj_norm.weight", (size.per_layer,), Kind.F32
    for i in range(size.layers):
        head = size.head if size.slides(i) else size.full_head
        wide = size.wide_from is not None and i >= size.wide_from
        feed_forward = size.feed_forward * (2 if wide else 1)
        yield from _layer(i, n, size.heads * head, head, feed_forward, kind)
        yield from _layer_extras(size, i, head, kind)


def _layer(
    i: int, n: int, width: int, head: int, feed_forward: int, kind: Kind
) -> Iterator[Tensor]:
    for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
        yield f"blk.{i}.{norm}.weight", (n,), Kind.F32
    yield f"blk.{i}.attn_q_norm.weight", (head,), Kind.F32
    yield f"blk.{i}.layer_output_scale.weight", (1,), Kind.F32
    yield f"blk.{i}.attn_q.weight", (width, n), kind
    yield f"blk.{i}.attn_output.weight", (n, width), kind
    yield f"blk.{i}.ffn_gate.weight", (feed_forward, n), kind
    yield f"blk.{i}.ffn_up.weight", (feed_forward, n), kind
    yield f"blk.{i}.ffn_down.weight", (n, feed_forward), kind


def _layer_extras(size: Size, i: int, head: int, kind: Kind) -> Iterator[Tensor]:
    n = size.embedding
    if i < size.layers - size.shared:
        width = head * (size.kv_heads if size.slides(i) else size.full_kv_heads)
        yield f"blk.{i}.attn_k.weight", (width, n), kind
        yield f"blk.{i}.attn_k_norm.weight", (head,), Kind.F32
        if size.slides(i) or not size.k_is_v:
            yield f"blk.{i}.attn_v.weight", (width, n), kind
    if size.per_layer:
        yield f"blk.{i}.inp_gate.weight", (size.per_layer, n), kind
        yield f"blk.{i}.proj.weight", (n, size.per_layer), kind
        yield f"blk.{i}.post_norm.weight", (n,), Kind.F32
    experts, _, feed_forward = size.experts
    if experts:
        yield f"blk.{i}.ffn_gate_inp.weight", (experts, n), Kind.F32
        yield f"blk.{i}.ffn_gate_inp.scale", (n,), Kind.F32
        yield f"blk.{i}.ffn_down_exps.scale", (experts,), Kind.F32
        yield f"blk.{i}.ffn_gate_up_exps.weight", (experts, 2 * feed_forward, n), kind
        yield f"blk.{i}.ffn_down_exps.weight", (experts, n, feed_forward), kind
        for norm in ("post_ffw_norm_1", "post_ffw_norm_2", "pre_ffw_norm_2"):
            yield f"blk.{i}.{norm}.weight", (n,), Kind.F32


def _write(writer: gguf.GGUFWriter, path: Path, tensors: Sequence[Tensor]) -> None:
    """Writes random weights; in quantized files a hole of their size."""
    end = 0
    for name, shape, kind in tensors:
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = shape[-1] // block * block_bytes
        nbytes = int(np.prod(shape[:-1])) * row_bytes
        # Rows of types without a numpy dtype are given in bytes.
        row = shape[-1] if kind == Kind.F32 else row_bytes
        dtype = np.dtype(np.float32 if kind == Kind.F32 else np.uint8)
        writer.add_tensor_info(name, (*shape[:-1], row), dtype, nbytes, raw_dtype=kind)
        end += _padded(nbytes)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.seek(_padded(path.stat().st_size))
        for name, shape, kind in tensors if Kind.Q4_0 not in {kind for *_, kind in tensors} else ():
            data = gguf.quants.quantize(_weights(name, shape), kind).tobytes()
            file.write(data.ljust(_padded(len(data)), b"\0"))
            end -= _padded(len(data))
        file.truncate(file.tell() + end)


def _padded(nbytes: int) -> int:
    return -(-nbytes // 32) * 32


def _weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    random = np.random.default_rng(len(name) + sum(shape))
    if name == "rope_freqs.weight":
        turning = shape[0] // 4
        return np.array([1.0] * turning + [1e30] * (shape[0] - turning), np.float32)
    if len(shape) == 1:
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    return random.normal(0, 0.2, shape).astype(np.float32)
