"""Gemma 4's tokenizer, a byte-fallback BPE: from tokenizer.json to GGUF's `tokenizer.ggml.*`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gguf import GGUFWriter, TokenType

from localmtp.convert.huggingface.tokenizer_json import (
    read_tokenizer,
    special_tokens,
    write_special_tokens,
)
from localmtp.errors import LocalmtpError

_USER_DEFINED = frozenset(
    (
        "<|channel>",
        "<channel|>",
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
        '<|"|>',
    )
)
"""Special tokens that a chat parser must see in the text, where control tokens are hidden."""

_SCORE = -1000.0
"""BPE has no scores; llama.cpp's converter writes this value for every token."""

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Gemma4Tokenizer:
    """Vocabulary and token types of a checkpoint.

    Args:
        directory: the checkpoint.
        vocab: number of rows of the model's embedding; every row must have one token.
        suppressed: ids of the tokens that the model must never generate; None: not stated.

    Raises:
        LocalmtpError: tokenizer.json is missing, malformed, of another kind or another size.
    """

    def __init__(self, directory: Path, vocab: int, suppressed: Sequence[int] | None) -> None:
        self._directory, self._suppressed = directory, suppressed
        found = read_tokenizer(directory)
        if not found.model.get("byte_fallback"):
            raise LocalmtpError(f"{found.path} is not a Gemma tokenizer (BPE with byte fallback)")
        self._added, ids = found.added, found.ids
        if sorted(ids.values()) != list(range(vocab)):
            raise LocalmtpError(
                f"{found.path} has {len(ids)} tokens, the model's embedding has {vocab} rows"
            )
        self._base_size = len(found.base)
        self._tokens = sorted(ids, key=ids.__getitem__)

    def write(self, writer: GGUFWriter) -> None:
        """Write tokens, token types, merges, ids of special tokens and the chat template.

        Raises:
            LocalmtpError: tokenizer_config.json or the merges are malformed.
        """
        writer.add_tokenizer_model("gemma4")
        writer.add_token_list(self._tokens)
        writer.add_token_scores([_SCORE] * len(self._tokens))
        writer.add_token_types(self._types())
        write_special_tokens(writer, self._directory)
        writer.add_add_space_prefix(False)
        writer.add_add_bos_token(True)
        if self._suppressed is not None:
            writer.add_array("tokenizer.ggml.suppress_tokens", self._suppressed)

    def _types(self) -> list[TokenType]:
        special = special_tokens(self._directory, self._added)
        added = {token["content"] for token in self._added}
        types = []
        for index, token in enumerate(self._tokens):
            if token in _USER_DEFINED:
                kind = TokenType.USER_DEFINED
            elif _BYTE.fullmatch(token):
                kind = TokenType.BYTE
            elif token in special:
                kind = TokenType.CONTROL
            elif token in added and index >= self._base_size:
                kind = TokenType.USER_DEFINED
            else:
                kind = TokenType.NORMAL
            types.append(kind)
        return types


def write_placeholder_vocabulary(writer: GGUFWriter, size: int) -> None:
    """Write as many tokens as a model has, most of them without meaning."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [f"word{i}" for i in range(size - len(special) - len(byte_tokens))]
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list([*special, *byte_tokens, *words])
    writer.add_token_types(
        [TokenType.CONTROL] * len(special)
        + [TokenType.BYTE] * len(byte_tokens)
        + [TokenType.NORMAL] * len(words)
    )
    writer.add_token_merges(["w o", "wo r"])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
