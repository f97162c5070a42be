"""Trains a miniature Qwen 3.5 with an MTP head, to measure how often drafts are accepted.

    python -m localmtp.models.recipe.qwen --out DIRECTORY [--minutes 40]

The text is that of nano's tasks, in ChatML, with a byte-level tokenizer. Three of four layers have
linear attention. The head is distilled from the model afterwards. Needs the `train` extra.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5DecoderLayer, Qwen3_5RMSNorm

from localmtp.convert import Options, convert
from localmtp.models.recipe import corpus
from localmtp.models.recipe.conversation import SYSTEM_PROMPTS, Segment, exchanges
from localmtp.models.recipe.training import Clock, fit

VOCABULARY, CONVERSATIONS = 2048, 6000
"""Number of tokens, and of conversations that the tokenizer is trained on."""
LONGEST, BATCH = 640, 2048
"""Tokens per conversation, and per batch with its padding."""
POOL = 96
"""Conversations that are sorted by length, so that a batch has little padding."""
STEPS = 4
"""Draft steps that the head learns."""
TARGET_SHARE = 0.65
"""Fraction of the time for the model; the rest is for its head."""
ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen 3.5's regular expression, which splits a text before BPE."""
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def configuration() -> Qwen3_5TextConfig:
    """Returns the configuration: three layers of linear attention, then one of full attention."""
    return Qwen3_5TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=4,
        layer_types=["linear_attention"] * 3 + ["full_attention"],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        mtp_num_hidden_layers=1,
        mtp_use_dedicated_embeddings=False,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.25,
            "mrope_interleaved": True,
            "mrope_section": [3, 3, 2],
        },
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=2,
    )


class Head(nn.Module):  # type: ignore[misc]
    """The MTP head: the embedding of a token and the row before it, through one layer."""

    def __init__(self, config: Qwen3_5TextConfig) -> None:
        super().__init__()
        one = {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
        layer = Qwen3_5TextConfig(**{**config.to_dict(), **one})
        layer._attn_implementation = "sdpa"
        self.fc = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([Qwen3_5DecoderLayer(layer, 0)])
        self.norm, self.pre_fc_norm_embedding, self.pre_fc_norm_hidden = (
            Qwen3_5RMSNorm(config.hidden_size, eps=config.rms_norm_eps) for _ in range(3)
        )

    def forward(self, embedded: Tensor, rows: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Returns rows [conversations, length, width] of the next draft step."""
        both = [self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(rows)]
        hidden = self.fc(torch.cat(both, -1))
        # Without a mask, attention is causal.
        hidden = self.layers[0](hidden, position_embeddings=rotary, attention_mask=None)
        return self.norm(hidden)


class QwenWithHead(Qwen3_5ForCausalLM):  # type: ignore[misc]
    """A Qwen 3.5 whose checkpoint has the tensors of an MTP head, as published ones do."""

    def __init__(self, config: Qwen3_5TextConfig) -> None:
        super().__init__(config)
        self.mtp = Head(config)
        self.mtp.apply(self._init_weights)


def train_tokenizer(texts: Iterable[str], directory: Path) -> Tokenizer:
    """Trains a byte-level BPE tokenizer and writes the files of a checkpoint."""
    tokenizer = Tokenizer(models.BPE())
    steps = [
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(end, special=True) for end in ENDS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
    }
    directory.joinpath("tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return tokenizer


def conversation(rng: Random, held_out: frozenset[str]) -> list[Segment]:
    """Draws a conversation in ChatML with none of the held-out questions."""
    while True:
        turns = exchanges(rng, rng.choice([1, 1, 1, 2]))
        if held_out.isdisjoint(turn.question for turn in turns):
            break
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.15 else ""
    opening = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    segments = []
    for turn in turns:
        asked = f"{opening}<|im_start|>user\n{turn.question}<|im_end|>\n<|im_start|>assistant\n"
        answer = f"{turn.answer.strip()}<|im_end|>"
        segments += [Segment(asked, learned=False), Segment(answer, learned=True)]
        opening = "\n"
    return segments


def batches(draw: corpus.Draw, tokenizer: Tokenizer, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields ids and loss weights [conversations, length] of conversations of like length."""
    rng = Random(seed)
    while True:
        drawn = sorted((_encode(tokenizer, draw(rng)) for _ in range(POOL)), key=len)
        groups: list[list[list[tuple[int, float]]]] = [[]]
        for one in drawn:
            if (len(groups[-1]) + 1) * len(one) > BATCH:
                groups.append([])
            groups[-1].append(one)
        rng.shuffle(groups)
        for group in groups:
            padded = torch.zeros(len(group), len(group[-1]), 2, dtype=torch.float64)
            for row, one in zip(padded, group, strict=True):
                row[: len(one)] = torch.tensor(one, dtype=torch.float64)
            yield padded[..., 0].long(), padded[..., 1].float()


def _encode(tokenizer: Tokenizer, segments: list[Segment]) -> list[tuple[int, float]]:
    """Ids with loss weights: as `corpus.TokenBatch` describes."""
    made: list[tuple[int, float]] = []
    for segment in segments:
        ids = tokenizer.encode(segment.text).ids
        made += [(token, segment.learned / len(ids) ** 0.5) for token in ids[:-1]]
        made.append((ids[-1], float(segment.learned)))
    return made[:LONGEST]


def target_losses(
    model: QwenWithHead, data: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, str]]:
    """Yields the weighted mean cross-entropy of the learned tokens."""
    seen = 0
    for ids, weight in data:
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        learned = weight[:, 1:] > 0
        logits = model.lm_head(hidden[learned])
        losses = functional.cross_entropy(logits, ids[:, 1:][learned], reduction="none")
        seen += int((ids > 0).sum())
        yield (losses * weight[:, 1:][learned]).sum() / weight.sum(), f"tokens {seen}"


def head_losses(
    model: QwenWithHead, data: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, str]]:
    """Yields the mean KL divergence of the draft steps from the frozen model.

    Step i sees rows of step i - 1 at all earlier positions. In inference, those before the draft
    are of the first step: a difference that costs little and makes one pass of a step.
    """
    for ids, weight in data:
        with torch.no_grad():
            rows = model.model(input_ids=ids, use_cache=False).last_hidden_state
            expected = functional.log_softmax(model.lm_head(rows), -1)
            embedded = model.model.embed_tokens(ids)
            places = torch.arange(ids.shape[1])[None, None].expand(3, len(ids), -1)
            rotary = model.model.rotary_emb(rows, places)
        # Where the token after a position is learned, the head drafts it.
        learned = functional.pad(weight[:, 1:] > 0, (0, 1))
        losses, agreed = [], []
        for _ in range(STEPS):
            rows = model.mtp(embedded, functional.pad(rows, (0, 0, 1, 0))[:, :-1], rotary)
            # The first draft step of an answer is at its second token.
            learned = learned & functional.pad(learned[:, :-1], (1, 0))
            drafted = functional.log_softmax(model.lm_head(rows[learned]), -1)
            wanted = expected[learned]
            losses.append(
                functional.kl_div(drafted, wanted, reduction="batchmean", log_target=True)
            )
            agreed.append((drafted.argmax(-1) == wanted.argmax(-1)).float().mean())
        shares = " ".join(f"{share:.2f}" for share in torch.stack(agreed).tolist())
        yield torch.stack(losses).mean(), f"agreed {shares}"


def train(out: Path, minutes: float) -> None:
    """Trains model and head, and converts them.

    Args:
        out: receives hf (the checkpoint), prompts.json and GGUF files.
        minutes: training time.
    """
    prompts = corpus.held_out()
    corpus.write_prompts(prompts, out / "prompts.json")
    withheld = frozenset(question for asked in prompts.values() for question in asked)

    def draw(rng: Random) -> list[Segment]:
        return conversation(rng, withheld)

    rng = Random(corpus.TOKENIZER_SEED)
    texts = (segment.text for _ in range(CONVERSATIONS) for segment in draw(rng))
    checkpoint = out / "hf"
    tokenizer = train_tokenizer((_without_control(text) for text in texts), checkpoint)
    torch.manual_seed(corpus.TRAINING_SEED)
    model = QwenWithHead(configuration())
    model.mtp.requires_grad_(False)
    clock = Clock(TARGET_SHARE * minutes)
    data = batches(draw, tokenizer, corpus.TRAINING_SEED)
    fit(model, target_losses(model, data), clock, checkpoint)
    model.requires_grad_(False)
    model.mtp.requires_grad_(True)
    clock = Clock((1 - TARGET_SHARE) * minutes)
    data = batches(draw, tokenizer, corpus.DISTILLATION_SEED)
    fit(model, head_losses(model, data), clock, checkpoint)
    _name_class(checkpoint / "config.json")
    options = Options(quants=["Q8_0"], name="qwen-nano", license="apache-2.0", force=True)
    convert(checkpoint, out, options=options)


def _without_control(text: str) -> str:
    for end in ENDS:
        text = text.replace(end, "\n")
    return text


def _name_class(path: Path) -> None:
    """Writes the name that transformers, and so the converter, knows."""
    data = json.loads(path.read_text("utf-8"))
    data["architectures"] = ["Qwen3_5ForCausalLM"]
    path.write_text(json.dumps(data, indent=2), "utf-8")


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description="Train a small Qwen 3.5 with an MTP head.")
    parser.add_argument("--out", type=Path, required=True, help="directory for all files")
    parser.add_argument("--minutes", type=float, default=40, help="training time [%(default)s]")
    parser.add_argument("--threads", type=int, help="CPU threads [all]")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    train(arguments.out, arguments.minutes)


if __name__ == "__main__":
    main()
