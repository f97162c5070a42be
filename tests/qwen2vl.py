"""A generated GGUF of Qwen 2 VL's architecture: M-RoPE without recurrent layers, random weights."""

from __future__ import annotations

from pathlib import Path

import gguf

from tests.heads import N_VOCAB, weights, write_vocabulary

_WIDTH, _BLOCKS, _HEADS, _KEYS = 64, 2, 4, 32


def write_qwen2vl(path: Path) -> Path:
    """Writes a model that reads images, of the embedding length 64."""
    writer = gguf.GGUFWriter(path, "qwen2vl")
    writer.add_name("Tiny Qwen VL")
    writer.add_block_count(_BLOCKS)
    writer.add_context_length(4096)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(2 * _WIDTH)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e4)
    writer.add_rope_dimension_sections([2, 3, 3, 0])
    write_vocabulary(writer, pre="qwen2", media=True)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (N_VOCAB, _WIDTH), "output_norm": (_WIDTH,)}
    shapes["output"] = shapes["token_embd"]
    for i in range(_BLOCKS):
        block = f"blk.{i}"
        shapes |= {f"{block}.attn_norm": (_WIDTH,), f"{block}.ffn_norm": (_WIDTH,)}
        shapes |= {f"{block}.attn_{x}": (_KEYS, _WIDTH) for x in "kv"}
        shapes |= {f"{block}.attn_{x}": (_WIDTH, _WIDTH) for x in ("q", "output")}
        shapes |= {f"{block}.ffn_{x}": (2 * _WIDTH, _WIDTH) for x in ("gate", "up")}
        shapes[f"{block}.ffn_down"] = (_WIDTH, 2 * _WIDTH)
        for x, length in (("q", _WIDTH), ("k", _KEYS), ("v", _KEYS)):
            name = f"{block}.attn_{x}.bias"
            writer.add_tensor(name, weights(name, (length,), copies=False) - 1)
    for name, size in shapes.items():
        writer.add_tensor(f"{name}.weight", weights(f"{name}.weight", size, copies=False))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
