"""Qwen 3.5's tokenizer, a byte-level BPE: from tokenizer.json to GGUF's `tokenizer.ggml.*`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gguf import GGUFWriter, Keys, TokenType

from localmtp.convert.huggingface.tokenizer_json import (
    read_tokenizer,
    special_tokens,
    write_special_tokens,
)
from localmtp.errors import LocalmtpError

_PRE_TOKENIZER = "qwen35"
"""Name by which libllama knows the regular expression."""

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_REGEX = "|".join(
    (
        _CONTRACTIONS,
        r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
        _SPACES,
    )
)
"""Regular expression that splits a text before BPE."""

_QWEN2_REGEX = "|".join(
    (
        _CONTRACTIONS,
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        _SPACES,
    )
)
"""That of Qwen 2, which some programs save; transformers replaces it by the one above."""

_NAMED_LIKE_CONTROL = (
    ("<|", "|>"),
    ("<｜", "｜>"),
    ("<unused", ">"),
)
"""Beginning and end of added tokens that llama.cpp treats as control tokens."""

_CONTROL = frozenset(("<pad>", "<mask>", "<2mass>", "[@BOS@]"))


class Qwen35Tokenizer:
    """Vocabulary and token types of a checkpoint.

    Args:
        directory: the checkpoint.
        vocab: number of rows of the model's embedding; rows without a token are padding.

    Raises:
        LocalmtpError: tokenizer.json is missing, malformed, of another kind, or too large.
    """

    def __init__(self, directory: Path, vocab: int) -> None:
        self._directory = directory
        found = read_tokenizer(directory)
        if found.model.get("byte_fallback") or not found.model.get("merges"):
            raise LocalmtpError(f"{found.path} is not a Qwen tokenizer (byte-level BPE)")
        if not {_REGEX, _QWEN2_REGEX}.intersection(_regexes(found.content.get("pre_tokenizer"))):
            raise LocalmtpError(
                f"{found.path} splits text by another rule than Qwen 3.5's tokenizer",
                hint="copy the original model's tokenizer.json into the checkpoint",
            )
        self._tokens = {number: token for token, number in found.ids.items()}
        if self._tokens and not 0 <= min(self._tokens) <= max(self._tokens) < vocab:
            raise LocalmtpError(
                f"{found.path} has ids up to {max(self._tokens)}, the model's embedding has "
                f"{vocab} rows"
            )
        self._vocab = vocab
        post = found.content.get("post_processor")
        self._adds_nothing = isinstance(post, dict) and post.get("type") == "ByteLevel"
        self._added = {token["content"] for token in found.added}
        self._special = special_tokens(directory, found.added)

    def write(self, writer: GGUFWriter) -> None:
        """Write tokens, token types, merges, ids of special tokens and the chat template.

        Raises:
            LocalmtpError: tokenizer_config.json or the merges are malformed.
        """
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_PRE_TOKENIZER)
        tokens, types = zip(*map(self._token, range(self._vocab)), strict=True)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        write_special_tokens(writer, self._directory)
        if self._adds_nothing:
            self._write_default(writer, Keys.Tokenizer.ADD_BOS)
            self._write_default(writer, Keys.Tokenizer.ADD_EOS)

    def _write_default(self, writer: GGUFWriter, key: str) -> None:
        """Write False unless tokenizer_config.json states a value, as newer versions of gguf do."""
        if not any(key in part for part in writer.kv_data):
            writer.add_bool(key, False)

    def _token(self, number: int) -> tuple[str, TokenType]:
        token = self._tokens.get(number)
        if token is None:
            return f"[PAD{number}]", TokenType.UNUSED
        if token not in self._added:
            return token, TokenType.NORMAL
        if token in self._special or _looks_like_control(token):
            return token, TokenType.CONTROL
        return token.replace("▁", " "), TokenType.USER_DEFINED


def _looks_like_control(token: str) -> bool:
    return token in _CONTROL or any(
        token.startswith(begin) and token.endswith(end) for begin, end in _NAMED_LIKE_CONTROL
    )


def _regexes(pre_tokenizer: object) -> Iterator[str]:
    """Yield the regular expressions by which a pre-tokenizer splits."""
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": [*steps]}:
            for step in steps:
                if isinstance(step, dict) and step.get("type") != "Sequence":
                    yield from _regexes(step)
        case {"type": "Split", "pattern": {"Regex": str(regex)}}:
            yield regex


def write_placeholder_vocabulary(writer: GGUFWriter, size: int) -> None:
    """Write as many tokens as a model has, most of them without meaning."""
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    letters = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + i) for i in range(256 - len(letters))]
    words = [f"word{i}" for i in range(size - len(special) - len(letters))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRE_TOKENIZER)
    writer.add_token_list([*special, *letters, *words])
    kinds = [TokenType.CONTROL] * len(special)
    writer.add_token_types(kinds + [TokenType.NORMAL] * (size - len(special)))
    writer.add_token_merges(["w o", "wo r"])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
