"""Trains a byte-fallback BPE tokenizer like Gemma's on generated text.

Spaces become U+2581, only runs of newlines are split off, and unknown characters fall back to
bytes. During training digits are split off, so no merge has a digit and numbers are tokenized digit
by digit.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Split
from tokenizers.trainers import BpeTrainer

from localmtp.models.recipe.lexicon import words

SPECIAL = words(
    "<pad> <eos> <bos> <unk> <mask> <|tool> <tool|> <|tool_call> <tool_call|> <|tool_response> "
    '<tool_response|> <|"|> <|think|> <|channel> <channel|> <|turn> <turn|> <|image> <image|> '
    "<|audio> <audio|> <|image|> <|audio|> <|video|>"
)
"""Gemma 4's control tokens; the first five have the same ids as in Gemma 4."""
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NEWLINES = ["\n", "\n\n", "\n\n\n", "\n\n\n\n"]
NEWLINE_MERGES = [["\n", "\n"], ["\n\n", "\n\n"], ["\n\n", "\n"]]
SPACE = "\u2581"
WORDS = rf"\n+|[0-9]|{SPACE}{{2,}}|{SPACE}?[^\W\d]+|{SPACE}?[^\w\s{SPACE}]+|{SPACE}"


def train(texts: Iterable[str], size: int, directory: Path) -> None:
    """Trains a vocabulary of `size` tokens and writes the tokenizer's files to `directory`."""
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=False))
    tokenizer.normalizer = Replace(" ", SPACE)
    tokenizer.pre_tokenizer = Split(Regex(WORDS), "isolated")
    # Runs of newlines are added afterwards, with merges that build each run completely.
    trainer = BpeTrainer(
        vocab_size=size - len(NEWLINES) + 1,
        special_tokens=[*SPECIAL, *BYTES],
        initial_alphabet=[SPACE, "\n", *map(chr, range(33, 127))],
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    data = json.loads(tokenizer.to_str())
    _add_newline_runs(data["model"])
    _use_gemma_pipeline(data)
    directory.mkdir(parents=True, exist_ok=True)
    directory.joinpath("tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), "utf-8")
    directory.joinpath("tokenizer_config.json").write_text(json.dumps(_config(), indent=2), "utf-8")
    template = Path(__file__).with_name("template.jinja").read_text("utf-8")
    directory.joinpath("chat_template.jinja").write_text(template, "utf-8")


def copy(source: Path, directory: Path) -> None:
    """Copies the tokenizer's files to another directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(source / name, directory / name)


def _add_newline_runs(model: dict[str, object]) -> None:
    vocab, merges = model["vocab"], model["merges"]
    assert isinstance(vocab, dict) and isinstance(merges, list)
    fixed = [token for token in vocab if set(token) != {"\n"}]
    model["vocab"] = {token: index for index, token in enumerate([*fixed, *NEWLINES])}
    model["merges"] = NEWLINE_MERGES + [pair for pair in merges if "\n" not in pair[0]]


def _use_gemma_pipeline(data: dict[str, object]) -> None:
    added = data["added_tokens"]
    assert isinstance(added, list)
    data["added_tokens"] = [token for token in added if token["content"] not in BYTES]
    data["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    steps = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    data["decoder"] = {"type": "Sequence", "decoders": steps}


def _config() -> dict[str, object]:
    names = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return {
        "tokenizer_class": "GemmaTokenizer",
        "model_max_length": 2048,
        "extra_special_tokens": {},
        **{f"{name}_token": token for name, token in names.items()},
    }
