"""Generated GGUF files of models with an MTP head: tiny, with random weights.

Metadata and tensors are those that llama.cpp's loaders ask for. `copies` makes a head that is right
about every second time: the layers add little, so both it and the target answer the last token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
MEDIA_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Renders images as Qwen's template does."""
_SPECIAL = ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<think>", "</think>")
_CONTROL, _NORMAL = 3, 1

N_VOCAB = 512

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Qwen35:
    """Shape of a Qwen 3.5."""

    moe: bool = False
    blocks: int = 4
    n_embd: int = 64
    heads: int = 4
    kv_heads: int = 2
    head: int = 32
    state: int = 32
    k_heads: int = 2
    v_heads: int = 4
    experts: int = 4

    @property
    def architecture(self) -> str:
        return "qwen35moe" if self.moe else "qwen35"


def write_qwen35(
    path: Path, shape: Qwen35 | None = None, *, trunk: bool = True, head: bool = True,
    declared: bool = False, copies: bool = True, seed: int = 7, media: bool = False,
) -> None:  # fmt: skip
    """Writes a model, its target without the head (perhaps `declared`), or the head alone.

    With `media`, its vocabulary and template have places for images.
    """
    shape = shape or Qwen35()
    writer = gguf.GGUFWriter(path, shape.architecture)
    _settings(writer, shape, head=head or declared)
    write_vocabulary(writer, media=media)
    for name, size in _tensors(shape, trunk=trunk, head=head):
        writer.add_tensor(name, weights(name, size, copies=copies, blocks=shape.blocks, seed=seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _settings(writer: gguf.GGUFWriter, shape: Qwen35, *, head: bool) -> None:
    writer.add_name("Tiny Qwen")
    writer.add_block_count(shape.blocks + head)
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(2 * shape.n_embd)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e4)
    writer.add_rope_dimension_count(shape.head // 4)
    writer.add_rope_dimension_sections([2, 1, 1, 0])
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_state_size(shape.state)
    writer.add_ssm_group_count(shape.k_heads)
    writer.add_ssm_time_step_rank(shape.v_heads)
    writer.add_ssm_inner_size(shape.state * shape.v_heads)
    writer.add_uint32(f"{shape.architecture}.full_attention_interval", 4)
    if head:
        writer.add_nextn_predict_layers(1)
    if shape.moe:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(shape.n_embd // 2)
        writer.add_expert_shared_feed_forward_length(shape.n_embd // 2)


def write_vocabulary(
    writer: gguf.GGUFWriter, n_vocab: int = N_VOCAB, pre: str = "qwen35", *, media: bool = False
) -> None:
    """Writes a byte-level vocabulary with Qwen's control tokens and template."""
    letters = sorted(_byte_letters().values())
    tokens = [*_SPECIAL, *letters, "th", "in"]
    words = [f"word{i}" for i in range(n_vocab - len(tokens))]
    kinds = [_CONTROL] * len(_SPECIAL) + [_NORMAL] * (n_vocab - len(_SPECIAL))
    if media:
        words[-len(_VISION) :] = _VISION
        kinds[-len(_VISION) :] = [_CONTROL] * len(_VISION)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*tokens, *words])
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h", "i n"])
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(MEDIA_TEMPLATE if media else TEMPLATE)


def _byte_letters() -> dict[int, str]:
    """GPT-2's letters of bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


def _tensors(shape: Qwen35, *, trunk: bool, head: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    n = shape.n_embd
    yield "token_embd.weight", (N_VOCAB, n)
    yield "output_norm.weight", (n,)
    yield "output.weight", (N_VOCAB, n)
    for i in range(shape.blocks if trunk else 0):
        yield from _attention(shape, i) if (i + 1) % 4 == 0 else _delta_net(shape, i)
        yield from _feed_forward(shape, i)
    if head:
        i = shape.blocks
        yield from _attention(shape, i)
        yield from _feed_forward(shape, i)
        yield f"blk.{i}.nextn.eh_proj.weight", (n, 2 * n)
        for norm in ("enorm", "hnorm", "shared_head_norm"):
            yield f"blk.{i}.nextn.{norm}.weight", (n,)


def _attention(shape: Qwen35, i: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    n, b = shape.n_embd, f"blk.{i}"
    yield f"{b}.attn_q.weight", (2 * shape.heads * shape.head, n)
    yield f"{b}.attn_k.weight", (shape.kv_heads * shape.head, n)
    yield f"{b}.attn_v.weight", (shape.kv_heads * shape.head, n)
    yield f"{b}.attn_output.weight", (n, shape.heads * shape.head)
    yield f"{b}.attn_q_norm.weight", (shape.head,)
    yield f"{b}.attn_k_norm.weight", (shape.head,)


def _delta_net(shape: Qwen35, i: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    n, b, value = shape.n_embd, f"blk.{i}", shape.v_heads * shape.state
    convolved = 2 * shape.k_heads * shape.state + value
    yield f"{b}.attn_qkv.weight", (convolved, n)
    yield f"{b}.attn_gate.weight", (value, n)
    yield f"{b}.ssm_conv1d.weight", (convolved, 4)
    yield f"{b}.ssm_dt.bias", (shape.v_heads,)
    yield f"{b}.ssm_a", (shape.v_heads,)
    yield f"{b}.ssm_beta.weight", (shape.v_heads, n)
    yield f"{b}.ssm_alpha.weight", (shape.v_heads, n)
    yield f"{b}.ssm_norm.weight", (shape.state,)
    yield f"{b}.ssm_out.weight", (n, value)


def _feed_forward(shape: Qwen35, i: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    n, b = shape.n_embd, f"blk.{i}"
    yield f"{b}.attn_norm.weight", (n,)
    yield f"{b}.post_attention_norm.weight", (n,)
    if not shape.moe:
        yield f"{b}.ffn_gate.weight", (2 * n, n)
        yield f"{b}.ffn_up.weight", (2 * n, n)
        yield f"{b}.ffn_down.weight", (n, 2 * n)
        return
    experts, width = shape.experts, n // 2
    yield f"{b}.ffn_gate_inp.weight", (experts, n)
    yield f"{b}.ffn_gate_exps.weight", (experts, width, n)
    yield f"{b}.ffn_up_exps.weight", (experts, width, n)
    yield f"{b}.ffn_down_exps.weight", (experts, n, width)
    yield f"{b}.ffn_gate_inp_shexp.weight", (n,)
    yield f"{b}.ffn_gate_shexp.weight", (width, n)
    yield f"{b}.ffn_up_shexp.weight", (width, n)
    yield f"{b}.ffn_down_shexp.weight", (n, width)


def weights(
    name: str, size: tuple[int, ...], *, copies: bool = True, blocks: int = 0, seed: int = 7
) -> Floats:
    """Random weights of a tensor."""
    if copies and name == "output.weight":  # a token is followed by that 37 after it
        return np.roll(weights("token_embd.weight", size, seed=seed), 37, 0) * np.float32(0.12)
    random = np.random.default_rng([seed, *name.encode()])
    spread = 1.0 if copies and name == "token_embd.weight" else 0.15
    drawn = random.normal(0, spread, size).astype(np.float32)
    if name.endswith("ssm_a"):
        return -np.exp(drawn)
    if len(size) == 1 and "ssm_dt" not in name and "shexp" not in name:
        return 1 + drawn
    if copies and name.endswith("eh_proj.weight"):
        first: Floats = np.eye(size[0], size[1], dtype=np.float32) + drawn / np.float32(10)
        return first
    if copies and any(part in name for part in ("attn_output", "ssm_out", "ffn_down")):
        in_head = int(name.split(".")[1]) >= blocks
        return drawn * np.float32(0.05 if in_head else 0.5)
    return drawn
