"""Front matter of a checkpoint's model card (README.md), reduced to what GGUF metadata uses.

The keys are those of the hub (https://huggingface.co/docs/hub/model-cards) and of llama.cpp's
converter. The text is not trusted: its size, its depth and the types of its values are limited, and
YAML aliases, which can expand to any size, are refused.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from localmtp.errors import LocalmtpError

_MAX_BYTES = 256 << 10
"""Longest front matter: some seconds of work for the YAML parser at worst."""
_MAX_DEPTH = 32

_PREFIXES = ("", "model_")
_TEXTS = frozenset(
    (
        *(
            prefix + key
            for prefix in _PREFIXES
            for key in (
                *("name", "author", "version", "organization", "description", "finetune"),
                *("basename", "size_label", "url", "doi", "uuid", "repo_url"),
            )
        ),
        *("model_creator", "model_type", "license", "license_name", "license_link"),
    )
)
"""Keys with one text; a list of texts is joined."""
_LISTS = frozenset(("tags", "pipeline_tag", "languages", "language"))
"""Keys with one text or a list of texts."""
_SOURCES = frozenset(
    (
        *("base_model", "base_models", "base_model_sources"),
        *("datasets", "dataset", "dataset_sources"),
    )
)
"""Keys with a name, or a list of names and of mappings."""


def read_model_card(directory: Path) -> dict[str, Any]:
    """Read the front matter of a checkpoint's README.md.

    Returns:
        Key → text, list of texts, or list of texts and of mappings of texts; empty if there is no
        model card or no front matter.

    Raises:
        LocalmtpError: the front matter is not valid YAML, too large, too deep, or has a value of
            another type.
    """
    path = directory / "README.md"
    text = _front_matter(path)
    try:
        card = yaml.load(text, _BoundedLoader)
        if not isinstance(card, dict):
            return {}
        return {key: _value(key, value) for key, value in card.items() if _is_used(key)}
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LocalmtpError(
            f"the front matter of {path} is not valid: {reason}", hint="fix it, or remove the file"
        ) from error


class _BoundedLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Constructs plain values only, of limited depth and without aliases."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        if self._depth >= _MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {_MAX_DEPTH} levels deep")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _front_matter(path: Path) -> str:
    """Text between the first two `---` lines; empty if there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LocalmtpError(f"cannot read {path}: {error.strerror}") from error
    first, *lines = data.split(b"\n")
    if first.rstrip() != b"---":
        return ""
    end = next((i for i, line in enumerate(lines) if line.rstrip() == b"---"), None)
    if end is None and len(data) > _MAX_BYTES:
        raise LocalmtpError(
            f"the front matter of {path} is larger than {_MAX_BYTES >> 10} KiB",
            hint="fix it, or remove the file",
        )
    try:
        text = b"\n".join(lines[:end]).decode()
    except UnicodeDecodeError as error:
        raise LocalmtpError(
            f"the front matter of {path} is not UTF-8", hint="fix it, or remove the file"
        ) from error
    # As in llama.cpp's converter: `no` is a language, and tabs are common mistakes.
    return text.replace("\t", "  ").replace("- no\n", '- "no"\n')


def _is_used(key: object) -> bool:
    return isinstance(key, str) and key in _TEXTS | _LISTS | _SOURCES


def _value(key: str, value: object) -> object:
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    if key in _TEXTS:
        return ", ".join(_text(key, item) for item in items)
    if key in _LISTS:
        return [_text(key, item) for item in items]
    return [
        {str(k): _text(key, v) for k, v in item.items()}
        if isinstance(item, dict)
        else _text(key, item)
        for item in items
    ]


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str | int | float | date):
        raise ValueError(f"{key} has a value of another type")
    text = str(value)
    text.encode()  # fails for a lone surrogate, which an escape can produce
    return text
