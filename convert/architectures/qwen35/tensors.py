"""Tensors of Qwen 3.5: Hugging Face's names, GGUF's names, shapes, and how values change.

Norms are stored minus one, except those of linear attention, and GGUF has them whole. `A_log`
becomes -exp(A_log). The heads of values in linear attention are grouped by the head of keys that
they share, and ggml's broadcast needs them interleaved: with two heads of keys and four of values,
0 1 2 3 becomes 0 2 1 3.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace

import numpy as np

from localmtp.convert.architectures.qwen35.config import Qwen35Config
from localmtp.convert.architectures.tensor_plan import TensorSlot, TensorTable, View, fill
from localmtp.convert.huggingface.rows import (
    ComputedValues,
    ReorderedColumns,
    Rows,
    Run,
    StoredRows,
)
from localmtp.engine.llama.ggml import Floats

_EMBEDDING = (("embed_tokens.weight", "token_embd.weight", "V n"),)
_NORM = (("norm.weight", "output_norm.weight", "n"),)
_OUTPUT = (("lm_head.weight", "output.weight", "V n"),)
_LAYER_NORMS = (
    ("input_layernorm.weight", "attn_norm.weight", "n"),
    ("post_attention_layernorm.weight", "post_attention_norm.weight", "n"),
)
_ATTENTION = (
    ("self_attn.q_proj.weight", "attn_q.weight", "2q n"),
    ("self_attn.k_proj.weight", "attn_k.weight", "k n"),
    ("self_attn.v_proj.weight", "attn_v.weight", "k n"),
    ("self_attn.o_proj.weight", "attn_output.weight", "n q"),
    ("self_attn.q_norm.weight", "attn_q_norm.weight", "d"),
    ("self_attn.k_norm.weight", "attn_k_norm.weight", "d"),
)
_MLP = (
    ("mlp.gate_proj.weight", "ffn_gate.weight", "f n"),
    ("mlp.up_proj.weight", "ffn_up.weight", "f n"),
    ("mlp.down_proj.weight", "ffn_down.weight", "n f"),
)
_MOE = (
    ("mlp.gate.weight", "ffn_gate_inp.weight", "E n"),
    ("mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight", "1 n"),
    ("mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight", "s n"),
    ("mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight", "s n"),
    ("mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight", "n s"),
)
_HEAD = (
    ("fc.weight", "nextn.eh_proj.weight", "n 2n"),
    ("norm.weight", "nextn.shared_head_norm.weight", "n"),
    ("pre_fc_norm_embedding.weight", "nextn.enorm.weight", "n"),
    ("pre_fc_norm_hidden.weight", "nextn.hnorm.weight", "n"),
)


class TensorNames:
    """The tensors of one configuration.

    Args:
        config: sizes of the model.
        stored: names in the checkpoint, which decide how experts are stored; empty for the layout
            that transformers writes.
    """

    def __init__(self, config: Qwen35Config, stored: Container[str] = ()) -> None:
        self._config, self._stored = config, stored
        self._sizes: Mapping[str, int] = {
            "1": 1,
            "V": config.vocab,
            "n": config.hidden,
            "2n": 2 * config.hidden,
            "q": config.heads * config.head_dim,
            "2q": 2 * config.heads * config.head_dim,
            "k": config.kv_heads * config.head_dim,
            "d": config.head_dim,
            "f": config.ffn or 0,
            "E": config.experts or 0,
            "s": config.shared_ffn,
        }

    def outer(self) -> Iterator[TensorSlot]:
        """Yield embeddings, output norm and output head."""
        yield from fill(_EMBEDDING, self._sizes)
        yield from self._norms(_NORM)
        yield from fill(_OUTPUT, self._sizes, required=not self._config.tied)

    def layers(self) -> Iterator[TensorSlot]:
        """Yield the tensors of all layers without the MTP head."""
        for layer, linear in enumerate(self._config.linear):
            prefixes = f"layers.{layer}.", f"blk.{layer}."
            yield from self._norms(_LAYER_NORMS, *prefixes)
            yield from self._linear(*prefixes) if linear else self._norms(_ATTENTION, *prefixes)
            yield from self._feed_forward(*prefixes)

    def head(self) -> Iterator[TensorSlot]:
        """Yield the tensors of the MTP head, which is the layer after the last."""
        prefix = f"blk.{self._config.layers}."
        yield from self._norms(_HEAD, "mtp.", prefix)
        yield from self._norms(_LAYER_NORMS, "mtp.layers.0.", prefix)
        yield from self._norms(_ATTENTION, "mtp.layers.0.", prefix)
        yield from self._feed_forward("mtp.layers.0.", prefix)

    def _norms(
        self, table: TensorTable, hf_prefix: str = "", prefix: str = ""
    ) -> Iterator[TensorSlot]:
        """Yield the slots of a table whose vectors are all norms."""
        for slot in fill(table, self._sizes, hf_prefix, prefix):
            yield replace(slot, view=_whole_norm) if len(slot.shape) == 1 else slot

    def _linear(self, hf_prefix: str, prefix: str) -> Iterator[TensorSlot]:
        """Yield the tensors of linear attention in one layer."""
        config = self._config
        n, kernel, heads = config.hidden, config.conv_kernel, config.value_heads
        keys, values = config.key_heads * config.state, heads * config.state
        mixed = self._value_rows(2 * keys, config.state)
        one, gate = self._value_rows(0, 1), self._value_rows(0, config.state)

        def slot(hf_name: str, name: str, *shape: int, view: View | None = None) -> TensorSlot:
            return TensorSlot(f"{hf_prefix}linear_attn.{hf_name}", prefix + name, shape, view=view)

        channels = 2 * keys + values
        yield slot("in_proj_qkv.weight", "attn_qkv.weight", channels, n, view=mixed)
        yield slot("in_proj_z.weight", "attn_gate.weight", values, n, view=gate)
        yield slot("in_proj_a.weight", "ssm_alpha.weight", heads, n, view=one)
        yield slot("in_proj_b.weight", "ssm_beta.weight", heads, n, view=one)
        convolution = slot("conv1d.weight", "ssm_conv1d.weight", channels, kernel, view=mixed)
        yield replace(convolution, stored_shape=(channels, 1, kernel))
        yield slot("A_log", "ssm_a", heads, view=self._decay)
        yield slot("dt_bias", "ssm_dt.bias", heads, view=self._value_columns(1))
        yield slot("norm.weight", "ssm_norm.weight", config.state)
        output = self._value_columns(config.state)
        yield slot("out_proj.weight", "ssm_out.weight", n, values, view=output)

    def _feed_forward(self, hf_prefix: str, prefix: str) -> Iterator[TensorSlot]:
        config = self._config
        if config.experts is None:
            yield from fill(_MLP, self._sizes, hf_prefix, prefix)
            return
        yield from fill(_MOE, self._sizes, hf_prefix, prefix)
        n, experts, width = config.hidden, config.experts, config.expert_ffn
        part = experts, width, n
        where = f"{hf_prefix}mlp.experts."
        gate, up, down = (f"{prefix}ffn_{kind}_exps.weight" for kind in ("gate", "up", "down"))
        if f"{where}0.gate_proj.weight" in self._stored:
            yield TensorSlot(f"{where}{{expert}}.gate_proj.weight", gate, part, experts=experts)
            yield TensorSlot(f"{where}{{expert}}.up_proj.weight", up, part, experts=experts)
            yield TensorSlot(
                f"{where}{{expert}}.down_proj.weight", down, (experts, n, width), experts=experts
            )
            return
        both = experts, 2 * width, n
        for name, first in ((gate, 0), (up, width)):
            half = _every(experts, 2 * width, first, width)
            yield TensorSlot(f"{where}gate_up_proj", name, part, stored_shape=both, view=half)
        yield TensorSlot(f"{where}down_proj", down, (experts, n, width))

    def _value_heads(self) -> list[int]:
        """Return, for each head of values in the file, its number in the checkpoint."""
        shared = self._config.value_heads // self._config.key_heads
        order = np.arange(self._config.value_heads).reshape(-1, shared)
        return [int(head) for head in order.T.flat]

    def _value_rows(self, first: int, size: int) -> View:
        """Return a view whose rows from `first` on, `size` per head of values, are reordered."""
        runs: list[Run] = [(first + head * size, size) for head in self._value_heads()]
        return _reordered(((0, first), *runs) if first else tuple(runs))

    def _value_columns(self, size: int) -> View:
        """Return a view whose columns, `size` per head of values, are reordered."""
        heads = np.array(self._value_heads())
        columns = (heads[:, None] * size + np.arange(size)).reshape(-1)
        return lambda rows: ReorderedColumns(rows, columns)

    def _decay(self, rows: StoredRows) -> Rows:
        return ComputedValues(self._value_columns(1)(rows), _negative_exponential)


def _every(experts: int, stride: int, first: int, rows: int) -> View:
    """Return a view of `rows` rows per expert, from row `first` of each."""
    return _reordered(tuple((expert * stride + first, rows) for expert in range(experts)))


def _reordered(runs: tuple[Run, ...]) -> View:
    return lambda rows: replace(rows, runs=runs)


def _whole_norm(rows: StoredRows) -> Rows:
    return ComputedValues(rows, _plus_one)


def _plus_one(values: Floats) -> Floats:
    return values + np.float32(1)


def _negative_exponential(values: Floats) -> Floats:
    # Double precision: the last bit of torch's single precision result depends on the processor.
    return (-np.exp(values.astype(np.float64))).astype(np.float32)
