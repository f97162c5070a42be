"""Tiny GGUF files of every architecture whose MTP head libllama runs, with random weights.

Settings and tensors are those that the loaders in `llama.cpp/src/models` ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import gguf

from tests.heads import N_VOCAB, weights, write_vocabulary

Setting = int | float | bool | list[int] | list[bool] | list[float]
Shape = tuple[int, ...]
Tensors = Iterator[tuple[str, Shape]]

N, HEADS, KV_HEADS, HEAD, EXPERTS, FF, WIDE = 64, 4, 2, 32, 4, 32, 128
"""Embedding length, heads, heads of keys, their length, experts, their width, dense width."""

Q_LORA, KV_LORA, ROPE = 24, 32, 16
"""Ranks of latent attention (MLA), and the rotated part of its keys."""

KEY = 128
"""Length of the keys of DeepSeek V4, which are its values too."""

BLOCKS = 4
"""Without the head."""

_COMMON: Mapping[str, Setting] = {
    "context_length": 4096, "embedding_length": N, "feed_forward_length": WIDE,
    "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
    "attention.key_length": HEAD, "attention.value_length": HEAD,
    "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e4,
    "rope.dimension_count": HEAD, "nextn_predict_layers": 1, "block_count": BLOCKS + 1,
    "expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": FF,
    "expert_shared_count": 1, "expert_shared_feed_forward_length": FF,
    "leading_dense_block_count": 1, "expert_gating_func": 2, "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
}  # fmt: skip

_MLA: Mapping[str, Setting] = {
    "rope.dimension_count": ROPE,
    "attention.head_count_kv": 1, "attention.q_lora_rank": Q_LORA,
    "attention.kv_lora_rank": KV_LORA, "attention.key_length": KV_LORA + ROPE,
    "attention.value_length": KV_LORA, "attention.key_length_mla": HEAD + ROPE,
    "attention.value_length_mla": HEAD,
}  # fmt: skip

_INDEXER: Mapping[str, Setting] = {
    "attention.indexer.head_count": 2, "attention.indexer.key_length": 64,
    "attention.indexer.top_k": 1024,
}  # fmt: skip

_DELTA_NET: Mapping[str, Setting] = {
    "ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 32, "ssm.time_step_rank": 4,
    "ssm.group_count": 2, "full_attention_interval": 4,
}  # fmt: skip


def _attention(b: str, *, gated: bool = False, norms: bool = False, fused: bool = False) -> Tensors:
    if fused:
        yield f"{b}.attn_qkv.weight", ((HEADS + 2 * KV_HEADS) * HEAD, N)
    else:
        yield f"{b}.attn_q.weight", (HEADS * HEAD * (1 + gated), N)
        yield f"{b}.attn_k.weight", (KV_HEADS * HEAD, N)
        yield f"{b}.attn_v.weight", (KV_HEADS * HEAD, N)
    yield f"{b}.attn_output.weight", (N, HEADS * HEAD)
    if norms:
        yield f"{b}.attn_q_norm.weight", (HEAD,)
        yield f"{b}.attn_k_norm.weight", (HEAD,)


def _latent_attention(b: str) -> Tensors:
    yield f"{b}.attn_q_a.weight", (Q_LORA, N)
    yield f"{b}.attn_q_a_norm.weight", (Q_LORA,)
    yield f"{b}.attn_q_b.weight", (HEADS * (HEAD + ROPE), Q_LORA)
    yield f"{b}.attn_kv_a_mqa.weight", (KV_LORA + ROPE, N)
    yield f"{b}.attn_kv_a_norm.weight", (KV_LORA,)
    yield f"{b}.attn_k_b.weight", (HEADS, KV_LORA, HEAD)
    yield f"{b}.attn_v_b.weight", (HEADS, HEAD, KV_LORA)
    yield f"{b}.attn_output.weight", (N, HEADS * HEAD)


def _indexer(b: str) -> Tensors:
    yield f"{b}.indexer.k_norm.weight", (64,)
    yield f"{b}.indexer.k_norm.bias", (64,)
    yield f"{b}.indexer.proj.weight", (2, N)
    yield f"{b}.indexer.attn_k.weight", (64, N)
    yield f"{b}.indexer.attn_q_b.weight", (128, Q_LORA)


def _norms(b: str, *names: str) -> Tensors:
    for name in names:
        yield f"{b}.{name}.weight", (N,)


def _dense(b: str) -> Tensors:
    yield f"{b}.ffn_gate.weight", (WIDE, N)
    yield f"{b}.ffn_up.weight", (WIDE, N)
    yield f"{b}.ffn_down.weight", (N, WIDE)


def _experts(
    b: str, *, bias: bool = True, shared: bool = True, gate: bool = True, scalar: bool = False
) -> Tensors:
    yield f"{b}.ffn_gate_inp.weight", (EXPERTS, N)
    if bias:
        yield f"{b}.exp_probs_b.bias", (EXPERTS,)
    if gate:
        yield f"{b}.ffn_gate_exps.weight", (EXPERTS, FF, N)
    yield f"{b}.ffn_up_exps.weight", (EXPERTS, FF, N)
    yield f"{b}.ffn_down_exps.weight", (EXPERTS, N, FF)
    if shared:
        if gate:
            yield f"{b}.ffn_gate_shexp.weight", (FF, N)
        yield f"{b}.ffn_up_shexp.weight", (FF, N)
        yield f"{b}.ffn_down_shexp.weight", (N, FF)
    if scalar:
        yield f"{b}.ffn_gate_inp_shexp.weight", (N,)


def _nextn(b: str, norm: str = "nextn.shared_head_norm") -> Tensors:
    yield f"{b}.nextn.eh_proj.weight", (N, 2 * N)
    yield from _norms(b, "nextn.enorm", "nextn.hnorm", norm)


def _glm4moe(i: int) -> Tensors:
    b = f"blk.{i}"
    yield from _attention(b)
    yield from _norms(b, "attn_norm", "post_attention_norm")
    yield from _experts(b) if i else _dense(b)


def _deepseek2(i: int) -> Tensors:
    b = f"blk.{i}"
    yield from _latent_attention(b)
    yield from _norms(b, "attn_norm", "ffn_norm")
    yield from _experts(b) if i else _dense(b)


def _deepseek32(i: int) -> Tensors:
    yield from _deepseek2(i)
    yield from _indexer(f"blk.{i}")


def _qwen3next(i: int) -> Tensors:
    b = f"blk.{i}"
    yield from _norms(b, "attn_norm", "post_attention_norm")
    if i == BLOCKS or (i + 1) % 4 == 0:
        yield from _attention(b, gated=True, norms=True)
    else:
        yield f"{b}.attn_qkv.weight", (256, N)
        yield f"{b}.attn_gate.weight", (128, N)
        yield f"{b}.ssm_conv1d.weight", (256, 4)
        yield f"{b}.ssm_dt.bias", (4,)
        yield f"{b}.ssm_a", (4,)
        yield f"{b}.ssm_ba.weight", (8, N)
        yield f"{b}.ssm_norm.weight", (32,)
        yield f"{b}.ssm_out.weight", (N, 128)
    yield from _experts(b, bias=False, scalar=True)


def _nemotron_h_moe(i: int) -> Tensors:
    """Blocks of one kind each: Mamba 2, experts, attention, Mamba 2; the head has two in one."""
    b = f"blk.{i}"
    yield from _norms(b, "attn_norm")
    if i in (0, 3):
        yield f"{b}.ssm_in.weight", (2 * 128 + 2 * 2 * 32 + 4, N)
        yield f"{b}.ssm_conv1d.weight", (128 + 2 * 2 * 32, 4)
        yield f"{b}.ssm_conv1d.bias", (128 + 2 * 2 * 32,)
        yield f"{b}.ssm_dt.bias", (4,)
        yield f"{b}.ssm_a", (4, 1)
        yield f"{b}.ssm_d", (4, 1)
        yield f"{b}.ssm_norm.weight", (2, 64)
        yield f"{b}.ssm_out.weight", (N, 128)
    if i in (2, BLOCKS):
        yield from _attention(b)
    if i in (1, BLOCKS):
        yield from _experts(b, gate=False)
    if i == BLOCKS:
        yield from _norms(b, "post_attention_norm")


def _bailingmoe3(i: int) -> Tensors:
    b, width = f"blk.{i}", HEADS * HEAD
    yield from _norms(b, "attn_norm", "ffn_norm")
    if i in (1, BLOCKS):
        yield from _latent_attention(b)
        yield f"{b}.attn_gate.weight", (HEADS, N)
    else:
        for part in "qkv":
            yield f"{b}.ssm_conv1d_{part}.weight", (1, width, 1, 4)
            yield f"{b}.attn_{part}.weight", (width, N)
        yield f"{b}.ssm_f_a.weight", (width, N)
        yield f"{b}.ssm_beta.weight", (HEADS, N)
        yield f"{b}.ssm_a", (HEADS, 1)
        yield f"{b}.ssm_dt.bias", (width,)
        yield f"{b}.ssm_g_a.weight", (width, N)
        yield f"{b}.ssm_norm.weight", (HEAD,)
        yield f"{b}.attn_output.weight", (N, width)
    yield from _experts(b) if i else _dense(b)


def _cohere2moe(i: int) -> Tensors:
    b = f"blk.{i}"
    yield from _norms(b, "attn_norm")
    yield from _attention(b)
    yield from _experts(b, bias=False) if i else _dense(b)


def _mimo2(i: int) -> Tensors:
    b = f"blk.{i}"
    yield from _norms(b, "attn_norm", "ffn_norm")
    yield from _attention(b, fused=True)
    yield from _dense(b) if i == 0 or i >= BLOCKS else _experts(b, shared=False)


def _step35(i: int) -> Tensors:
    b = f"blk.{i}"
    yield from _norms(b, "attn_norm", "ffn_norm")
    yield from _attention(b)
    yield from _dense(b) if i == 0 or i >= BLOCKS else _experts(b)


def _deepseek4(i: int) -> Tensors:
    """No compression, as in the head; with it every fourth position has a key of its own."""
    b = f"blk.{i}"
    yield from _norms(b, "attn_norm", "ffn_norm")
    yield f"{b}.attn_sinks.weight", (HEADS,)
    yield f"{b}.attn_q_a.weight", (Q_LORA, N)
    yield f"{b}.attn_q_a_norm.weight", (Q_LORA,)
    yield f"{b}.attn_q_b.weight", (HEADS * KEY, Q_LORA)
    yield f"{b}.attn_kv.weight", (KEY, N)
    yield f"{b}.attn_kv_a_norm.weight", (KEY,)
    yield f"{b}.attn_output_a.weight", (2 * 16, HEADS * KEY // 2)
    yield f"{b}.attn_output_b.weight", (N, 2 * 16)
    for part in ("attn", "ffn"):
        yield f"{b}.hc_{part}_fn.weight", (24, 4 * N)
        yield f"{b}.hc_{part}_base.weight", (24,)
        yield f"{b}.hc_{part}_scale.weight", (3,)
    if i == 1:
        yield f"{b}.attn_compressor_kv.weight", (2 * KEY, N)
        yield f"{b}.attn_compressor_gate.weight", (2 * KEY, N)
        yield f"{b}.attn_compressor_ape.weight", (4, 2 * KEY)
        yield f"{b}.attn_compressor_norm.weight", (KEY,)
        yield f"{b}.indexer.proj.weight", (2, N)
        yield f"{b}.indexer.attn_q_b.weight", (128, Q_LORA)
        yield f"{b}.indexer_compressor_kv.weight", (128, N)
        yield f"{b}.indexer_compressor_gate.weight", (128, N)
        yield f"{b}.indexer_compressor_ape.weight", (4, 128)
        yield f"{b}.indexer_compressor_norm.weight", (64,)
    yield from _experts(b)


def _hy_v3(i: int) -> Tensors:
    b = f"blk.{i}"
    yield from _norms(b, "attn_norm", "ffn_norm")
    yield from _attention(b, norms=True)
    yield from _experts(b, bias=False) if i else _dense(b)


def _glm5_next(i: int) -> Tensors:
    """Recurrent blocks and one with latent attention, as the head is."""
    b, width = f"blk.{i}", HEADS * HEAD
    yield from _norms(b, "attn_norm", "ffn_norm")
    if i < BLOCKS:
        for part in ("attn", "ffn"):
            yield f"{b}.hc_{part}_fn.weight", (24, 4 * N)
            yield f"{b}.hc_{part}_base.weight", (24,)
            yield f"{b}.hc_{part}_scale.weight", (3,)
    if i in (1, BLOCKS):
        yield f"{b}.attn_q_a.weight", (Q_LORA, N)
        yield f"{b}.attn_q_a_norm.weight", (Q_LORA,)
        yield f"{b}.attn_q_b.weight", (HEADS * HEAD, Q_LORA)
        yield f"{b}.attn_kv_a_mqa.weight", (KV_LORA, N)
        yield f"{b}.attn_kv_a_norm.weight", (KV_LORA,)
        yield f"{b}.attn_k_b.weight", (HEADS, KV_LORA, HEAD)
        yield f"{b}.attn_v_b.weight", (HEADS, HEAD, KV_LORA)
        yield f"{b}.attn_output.weight", (N, HEADS * HEAD)
        yield from _indexer(b)
        yield f"{b}.indexer_compressor_gate.weight", (64, N)
        yield f"{b}.indexer_compressor_ape.weight", (4, 64)
    else:
        for part in "qkv":
            yield f"{b}.ssm_conv1d_{part}.weight", (1, width, 1, 4)
            yield f"{b}.attn_{part}.weight", (width, N)
        for part in "fg":
            yield f"{b}.ssm_{part}_a.weight", (HEAD, N)
            yield f"{b}.ssm_{part}_b.weight", (width, HEAD)
        yield f"{b}.ssm_beta.weight", (HEADS, N)
        yield f"{b}.ssm_a", (HEADS,)
        yield f"{b}.ssm_dt.bias", (width,)
        yield f"{b}.ssm_norm.weight", (HEAD,)
        yield f"{b}.attn_output.weight", (N, width)
    yield from _experts(b) if i else _dense(b)


_PERIODIC: Mapping[str, Setting] = {
    "attention.sliding_window": 16,
    "attention.sliding_window_pattern": [True, True, True, False, False],
}

ARCHITECTURES: Mapping[
    str, tuple[Mapping[str, Setting], Callable[[int], Tensors]]
] = {
    "glm4moe": ({}, _glm4moe),
    "deepseek2": (_MLA, _deepseek2),
    "deepseek32": ({**_MLA, **_INDEXER}, _deepseek32),
    "glm-dsa": ({**_MLA, **_INDEXER}, _deepseek32),
    "qwen3next": ({**_DELTA_NET, "leading_dense_block_count": 0}, _qwen3next),
    "nemotron_h_moe": (
        {
            **_DELTA_NET, "attention.layer_norm_epsilon": 1e-6,
            "attention.head_count_kv": [0, 0, KV_HEADS, 0, KV_HEADS],
            "feed_forward_length": [0, FF, 0, 0, 0],
        },
        _nemotron_h_moe,
    ),
    "bailingmoe3": (
        {
            **_MLA, "attention.head_count_kv": [0, 1, 0, 0, 1], "ssm.conv_kernel": 4,
            "kda.head_dim": HEAD, "kda.safe_gate": True, "kda.gate_lower_bound": -5.0,
        },
        _bailingmoe3,
    ),
    "cohere2moe": ({**_PERIODIC, "logit_scale": 1.0}, _cohere2moe),
    "mimo2": (_PERIODIC, _mimo2),
    "step35": (_PERIODIC, _step35),
    "deepseek4": (
        {
            **_INDEXER, "attention.q_lora_rank": Q_LORA, "attention.head_count_kv": 1,
            "attention.key_length": KEY, "attention.value_length": KEY,
            "rope.dimension_count": 64, "attention.sliding_window": 16,
            "swiglu_clamp_exp": [7.0] * 5, "attention.output_group_count": 2,
            "attention.output_lora_rank": 16, "attention.compress_rope_freq_base": 1e4,
            "attention.compress_ratios": [0, 4, 0, 0, 0], "hyper_connection.count": 4,
            "hyper_connection.sinkhorn_iterations": 3, "hyper_connection.epsilon": 1e-6,
            "hash_layer_count": 0, "expert_gating_func": 4,
        },
        _deepseek4,
    ),
    "hy_v3": ({}, _hy_v3),
}  # fmt: skip
"""Settings beyond the common ones, and the tensors of a block."""

WITHOUT_GRAPH: Mapping[str, tuple[Mapping[str, Setting], Callable[[int], Tensors]]] = {
    "glm5-next": (
        {
            **_MLA, **_INDEXER, "attention.indexer.kpool": 4,
            "attention.head_count_kv": [0, 1, 0, 0, 1], "rope.dimension_count": 0,
            "attention.key_length": KV_LORA, "attention.key_length_mla": HEAD,
            "ssm.conv_kernel": 4, "kda.head_dim": HEAD, "kda.gate_lower_bound": -5.0,
            "hyper_connection.count": 4, "hyper_connection.sinkhorn_iterations": 3,
            "hyper_connection.epsilon": 1e-6,
        },
        _glm5_next,
    ),
}  # fmt: skip
"""Architectures whose head libllama loads and does not run."""


def write_model(
    path: Path, architecture: str, *, trunk: bool = True, head: bool = True, heads: int = 1
) -> None:
    """Writes a model, its target without the head, or the head alone."""
    writer = gguf.GGUFWriter(path, architecture)
    settings, block = {**ARCHITECTURES, **WITHOUT_GRAPH}[architecture]
    counted = {"nextn_predict_layers": heads, "block_count": BLOCKS + heads}
    for key, value in {**_COMMON, **settings, **counted}.items():
        if not head:  # converted without it
            value = value[:BLOCKS] if isinstance(value, list) else value
            value = {"nextn_predict_layers": 0, "block_count": BLOCKS}.get(key, value)
        elif isinstance(value, list):  # of every block
            value = value + value[-1:] * (heads - 1)
        _add(writer, f"{architecture}.{key}", value)
    write_vocabulary(writer)
    tensors = [("token_embd.weight", (N_VOCAB, N)), ("output_norm.weight", (N,))]
    tensors.append(("output.weight", (N_VOCAB, N)))
    if architecture == "deepseek4":
        tensors += [("output_hc_fn.weight", (4, 4 * N)), ("output_hc_base.weight", (4,))]
        tensors.append(("output_hc_scale.weight", (1,)))
    for i in range(BLOCKS if trunk else 0):
        tensors += block(i)
    last = "layer_output_norm" if architecture == "bailingmoe3" else "nextn.shared_head_norm"
    for i in range(BLOCKS, BLOCKS + heads if head else BLOCKS):
        tensors += block(i)
        tensors += _nextn(f"blk.{i}", last)
    for name, size in tensors:
        writer.add_tensor(name, weights(name, size, blocks=BLOCKS))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Setting) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_float32(key, value)
