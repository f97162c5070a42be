"""Models that say a given script, whatever they are asked.

A parrot has the shape of nano. Its layers add nothing to the residual stream, every token of the
script has an embedding of its own, and the output matrix maps that embedding to the next token, so
that markers, tool calls and split characters can be driven through the whole program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from localmtp.models import resolve

_END = "<turn|>"
_ADDED_NOTHING = ("attn_output.weight", "ffn_down.weight", ".proj.weight", "per_layer_proj.weight")
_WIDTH = 256
_LOGIT = 1.5


def parrot(
    path: Path,
    script: Sequence[str],
    *,
    template: str = "",
    also: Mapping[str, Sequence[str]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    ends: bool = True,
    control: Sequence[str] = (),
) -> Path:
    """Write a model that says a script, one token after another, and ends its turn.

    Args:
        path: of the GGUF.
        script: texts of tokens; a text that nano's vocabulary does not have becomes a token of its
            own. No token may come twice: what follows a token depends on nothing else.
        template: chat template; empty keeps nano's.
        also: further successors by token, each as likely as that of the script.
        metadata: other values for existing keys.
        ends: whether it ends its turn, or says the script again and again.
        control: texts of the script that are control tokens.

    Returns:
        The path.
    """
    nano = GGUFReader(str(resolve("nano").target))
    vocabulary = _Vocabulary(nano, control)
    after = [*script[1:], _END if ends else script[0]]
    successors = {now: {then} for now, then in zip(script, after, strict=True)}
    for now, others in (also or {}).items():
        successors[now] |= set(others)
    ids = {text: vocabulary.id_of(text) for text in [*script, _END]}
    embedding = np.zeros((len(vocabulary.tokens), _WIDTH), np.float32)
    output = np.zeros_like(embedding)
    embedding[:, 0] = 1  # any other token: the script begins
    output[ids[script[0]], 0] = _LOGIT
    for at, (text, token) in enumerate(ids.items(), start=1):
        embedding[token] = 0
        embedding[token, at] = 1
        for then in successors.get(text, {script[0]}):
            output[ids[then], at] = _LOGIT
    changed = {**vocabulary.fields(), "general.name": path.stem, **(metadata or {})}
    if template:
        changed["tokenizer.chat_template"] = template
    writer = GGUFWriter(str(path), arch="gemma4")
    for field in nano.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
            value = changed.get(field.name, field.contents())
            writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    _add_tensors(writer, nano, embedding, output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Vocabulary:
    """nano's vocabulary, which grows with a script."""

    def __init__(self, nano: GGUFReader, control: Sequence[str]) -> None:
        self._control = frozenset(control)
        self.tokens, self._types, self._scores = (
            list(nano.fields[f"tokenizer.ggml.{name}"].contents())
            for name in ("tokens", "token_type", "scores")
        )

    def id_of(self, text: str) -> int:
        """Id of a token, added if necessary."""
        if text not in self.tokens:
            self.tokens.append(text)
            self._types.append(3 if text in self._control else 1)
            self._scores.append(-1000.0)
        return self.tokens.index(text)

    def fields(self) -> dict[str, Any]:
        return {
            "tokenizer.ggml.tokens": self.tokens,
            "tokenizer.ggml.token_type": self._types,
            "tokenizer.ggml.scores": self._scores,
        }


def _add_tensors(
    writer: GGUFWriter, nano: GGUFReader, embedding: np.ndarray, output: np.ndarray
) -> None:
    for tensor in nano.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        if tensor.name == "token_embd.weight":
            writer.add_tensor(tensor.name, embedding)
        elif tensor.name == "per_layer_token_embd.weight":
            writer.add_tensor(tensor.name, np.zeros((len(embedding), shape[1]), np.float32))
        elif tensor.name == "output_norm.weight":
            writer.add_tensor(tensor.name, np.ones(shape, np.float32))
        elif tensor.name.endswith(_ADDED_NOTHING):
            writer.add_tensor(tensor.name, np.zeros(shape, np.float32))
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.add_tensor("output.weight", output)
