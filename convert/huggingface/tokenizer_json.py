"""tokenizer.json: vocabulary, added tokens, and what gguf reads of the other tokenizer files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, SpecialVocab

from localmtp.convert.huggingface.checkpoint import Json, read_json
from localmtp.errors import LocalmtpError

# gguf reports progress as log warnings, which would be printed without a handler.
logging.getLogger("gguf").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """The content of a tokenizer.json with a BPE vocabulary."""

    path: Path
    content: Json
    model: Json
    """The section `model`."""
    base: Mapping[str, int]
    """Token → id, without the added tokens."""
    added: Sequence[Mapping[str, Any]]
    """Added tokens, each with `id` and `content`."""

    @property
    def ids(self) -> dict[str, int]:
        """Token → id of all tokens."""
        return {**self.base, **{token["content"]: token["id"] for token in self.added}}


def read_tokenizer(directory: Path) -> TokenizerFile:
    """Read the tokenizer of a checkpoint.

    Raises:
        LocalmtpError: tokenizer.json is missing, malformed, or has no vocabulary.
    """
    path = directory / "tokenizer.json"
    if not path.exists():
        raise LocalmtpError(
            f"{directory} has no tokenizer.json",
            hint="copy the original model's tokenizer files into it",
        )
    content = read_json(path)
    model = content.get("model")
    model = model if isinstance(model, dict) else {}
    base = model.get("vocab")
    if not isinstance(base, dict) or not all(type(i) is int for i in base.values()):
        raise LocalmtpError(f"{path} has no usable vocabulary")
    return TokenizerFile(path, content, model, base, _added_tokens(content, path))


def write_special_tokens(writer: GGUFWriter, directory: Path) -> None:
    """Write merges, ids of special tokens and the chat template.

    Raises:
        LocalmtpError: tokenizer_config.json or the merges are malformed.
    """
    try:
        SpecialVocab(directory, load_merges=True).add_to_gguf(writer, quiet=True)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise LocalmtpError(f"the tokenizer files in {directory} are malformed: {error}") from error


def special_tokens(directory: Path, added: Sequence[Mapping[str, Any]]) -> set[str]:
    """Tokens named in tokenizer_config.json, and those marked special in tokenizer.json.

    Args:
        directory: the checkpoint.
        added: added tokens of tokenizer.json.

    Raises:
        LocalmtpError: tokenizer_config.json is malformed.
    """
    path = directory / "tokenizer_config.json"
    named = set(_named_tokens(read_json(path))) if path.exists() else set()
    return named | {token["content"] for token in added if token.get("special")}


def _added_tokens(content: Json, path: Path) -> list[dict[str, Any]]:
    added = content.get("added_tokens") or []
    for token in added if isinstance(added, list) else [added]:
        match token:
            case {"id": int(), "content": str()}:
                continue
            case _:
                raise LocalmtpError(f"{path} has a malformed added token")
    return list(added)


def _named_tokens(config: Json) -> Iterator[str]:
    for key, value in config.items():
        if key.endswith("_token"):
            yield from _texts(value)
        elif key in ("extra_special_tokens", "additional_special_tokens"):
            values = value.values() if isinstance(value, dict) else value
            for each in values if isinstance(values, Iterable) else ():
                yield from _texts(each)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str(text) | {"content": str(text)}:
            yield text
