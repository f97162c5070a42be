"""Trains the target: a Gemma4ForCausalLM with everything that E-type models have, in miniature."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Gemma4ForCausalLM, Gemma4TextConfig, GenerationConfig

from localmtp.models.recipe import corpus
from localmtp.models.recipe.muon import Muon
from localmtp.models.recipe.schedule import Clock

SOFTCAP = 30.0
WINDOW = 256
CONTEXT = 2048
ROPE = {
    "full_attention": {
        "rope_type": "proportional",
        "partial_rotary_factor": 0.25,
        "rope_theta": 1e6,
    },
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
COMMON = {
    "head_dim": 64,
    "global_head_dim": 128,
    "num_key_value_heads": 1,
    "sliding_window": WINDOW,
    "max_position_embeddings": CONTEXT,
    "rope_parameters": ROPE,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
"""What the drafter must share with the target, whose keys and values it reads."""
ROWS, LENGTH = 4, 512
LONG_ROWS, LONG_LENGTH = 2, 1024
LONG_SHARE = 0.85
"""From this share of the time on rows are long, so that whole conversations fit."""
MUON_RATE, ADAM_RATE = 3e-3, 3e-3
CHECKPOINT_S = 150


def configuration(vocabulary: int) -> Gemma4TextConfig:
    """Two of three layers slide; the last three read the keys of layers 1 and 2."""
    return Gemma4TextConfig(
        vocab_size=vocabulary,
        vocab_size_per_layer_input=vocabulary,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        num_attention_heads=4,
        num_kv_shared_layers=3,
        use_double_wide_mlp=True,
        hidden_size_per_layer_input=32,
        final_logit_softcapping=SOFTCAP,
        attention_k_eq_v=False,
        enable_moe_block=False,
        **COMMON,
    )


def masks(document: Tensor) -> dict[str, Tensor]:
    """Causal masks [rows, 1, length, length] within each document, full and sliding."""
    length = document.shape[1]
    position = torch.arange(length)
    distance = position[:, None] - position[None, :]
    full = (document[:, :, None] == document[:, None, :]) & (distance >= 0)
    return {
        "full_attention": full[:, None],
        "sliding_attention": (full & (distance < WINDOW))[:, None],
    }


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and vectors."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and "embed" not in name
        (matrices if inside else rest).append(parameter)
    return [
        Muon(matrices, lr=MUON_RATE),
        torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def loss_of(model: Gemma4ForCausalLM, batch: corpus.Rows) -> Tensor:
    """Mean cross-entropy over the model turns; logits are computed only there."""
    ids = torch.from_numpy(batch.ids)
    hidden = model.model(
        input_ids=ids[:, :-1],
        attention_mask=masks(torch.from_numpy(batch.document)[:, :-1]),
        use_cache=False,
    ).last_hidden_state
    learned = torch.from_numpy(batch.learned)[:, 1:]
    logits = SOFTCAP * torch.tanh(model.lm_head(hidden[learned]) / SOFTCAP)
    return functional.cross_entropy(logits, ids[:, 1:][learned])


def save(model: nn.Module, directory: Path) -> None:
    """Writes the checkpoint as transformers does, in bfloat16 as published checkpoints are."""
    state = {name: value.detach().to(torch.bfloat16) for name, value in model.state_dict().items()}
    model.save_pretrained(directory, state_dict=state)
    path = directory / "config.json"
    data = json.loads(path.read_text("utf-8"))
    data["dtype"] = "bfloat16"
    path.write_text(json.dumps(data, indent=2), "utf-8")


def generation_config(tokens: dict[str, int]) -> GenerationConfig:
    """Gemma 4's sampling, and the tokens that end a turn."""
    ends = [tokens[name] for name in ("<eos>", "<turn|>", "<|tool_response>")]
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=64,
        top_p=0.95,
        eos_token_id=ends,
        bos_token_id=tokens["<bos>"],
        pad_token_id=tokens["<pad>"],
    )


def _long_after(directory: Path, clock: Clock) -> Iterator[corpus.Rows]:
    short = corpus.batches(directory, ROWS, LENGTH, corpus.TRAINING_SEED)
    long = corpus.batches(directory, LONG_ROWS, LONG_LENGTH, corpus.TRAINING_SEED + 1)
    while True:
        yield next(short if clock.share() < LONG_SHARE else long)


def begin(directory: Path) -> Gemma4ForCausalLM:
    """An untrained target for the tokenizer in directory."""
    torch.manual_seed(corpus.TRAINING_SEED)
    tokens = json.loads(directory.joinpath("tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    model = Gemma4ForCausalLM(configuration(len(tokens)))
    model.generation_config = generation_config(tokens)
    soften(model)
    return model


def soften(model: nn.Module) -> None:
    """Scales the queries' norms by 1/sqrt(head size).

    Gemma 4 does not scale attention scores: with norms of 1 they are so far apart at the start
    that each head looks at one random token, and hardly learns to look elsewhere.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("q_norm.weight"):
                parameter.mul_(len(parameter) ** -0.5)


def train(model: Gemma4ForCausalLM, directory: Path, minutes: float) -> None:
    """Trains for the given minutes beside the tokenizer in directory, saving now and then."""
    chosen = optimizers(model)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in chosen]
    clock, saved, mean, seen = Clock(minutes), time.monotonic(), math.nan, 0
    for step, batch in enumerate(_long_after(directory, clock)):
        loss = loss_of(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(chosen, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * clock.rate(step)
            optimizer.step()
            optimizer.zero_grad()
        seen += int(batch.learned.size)
        mean = loss.item() if math.isnan(mean) else 0.95 * mean + 0.05 * loss.item()
        if step % 10 == 0:
            print(f"target {step} {clock.share():.3f} loss {mean:.4f} tokens {seen}", flush=True)
        if clock.share() >= 1 or time.monotonic() - saved > CHECKPOINT_S:
            save(model, directory)
            saved = time.monotonic()
        if clock.share() >= 1:
            return
