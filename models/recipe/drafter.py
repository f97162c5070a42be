"""Distils the drafter: a Gemma4AssistantForCausalLM that reads the target's keys and values.

As in use, all steps of one round stand at one position and see the keys before it; each step takes
the token before the one to be predicted, with the hidden row of the target (first step) or of the
drafter itself (later steps). Rounds are drawn at many positions of a batch at once.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4ForCausalLM,
    GenerationConfig,
)

from localmtp.models.recipe import corpus
from localmtp.models.recipe.schedule import Clock
from localmtp.models.recipe.target import COMMON, SOFTCAP, WINDOW, masks, optimizers, save, soften

STEPS = 8
"""Drafts per round. Acceptance falls off behind the number that was distilled."""
ROWS, LENGTH, ROUNDS = 4, 512, 128
"""Rows in a batch, their length, and the rounds drawn in each row."""
CHECKPOINT_S = 120


def configuration(target: Gemma4ForCausalLM) -> Gemma4AssistantConfig:
    """Three sliding layers and a full one, without a cache of their own."""
    return Gemma4AssistantConfig(
        text_config={
            "vocab_size": target.config.vocab_size,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "num_attention_heads": target.config.num_attention_heads,
            "num_kv_shared_layers": 4,
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
            "enable_moe_block": False,
            "use_double_wide_mlp": False,
            **COMMON,
        },
        backbone_hidden_size=target.config.hidden_size,
        # llama.cpp reads the whole vocabulary instead of the centroid head.
        use_ordered_embeddings=False,
    )


def begin(target: Gemma4ForCausalLM) -> Gemma4AssistantForCausalLM:
    """A drafter whose output head starts as the principal components of the target's."""
    drafter = Gemma4AssistantForCausalLM(configuration(target))
    soften(drafter)
    table = target.lm_head.weight.detach()
    width = drafter.lm_head.weight.shape[1]
    components = torch.linalg.svd(table, full_matrices=False)[2][:width]
    with torch.no_grad():
        drafter.lm_head.weight.copy_(table @ components.T)
        drafter.pre_projection.weight[:, table.shape[1] :].copy_(components)
        drafter.post_projection.weight.copy_(components.T)
    return drafter


@dataclass(frozen=True, slots=True)
class Rounds:
    """What the frozen target says about a batch, and where rounds start in it."""

    ids: Tensor
    hidden: Tensor
    """[rows, length, width], behind the final norm."""
    shared: dict[str, tuple[Tensor, Tensor]]
    position: Tensor
    """[rows, rounds]: of the last committed token."""
    masks: dict[str, Tensor]
    learned: Tensor

    def at(self, values: Tensor, offset: int) -> Tensor:
        """values[rows, length, …] at each round's position + offset."""
        rows = torch.arange(values.shape[0])[:, None]
        return values[rows, self.position + offset]


def observe(target: Gemma4ForCausalLM, batch: corpus.Rows) -> Rounds:
    """Runs the target over a batch and draws rounds where the model writes."""
    ids = torch.from_numpy(batch.ids)[:, :-1]
    document = torch.from_numpy(batch.document)[:, :-1]
    with torch.no_grad():
        out = target.model(
            input_ids=ids,
            attention_mask=masks(document),
            use_cache=False,
            return_shared_kv_states=True,
        )
    learned = torch.from_numpy(batch.learned)[:, 1:]
    # A round starts where the next token is the model's, not too near the end of the row.
    starts = learned.float()
    starts[:, 0] = 0
    starts[:, -STEPS:] = 0
    position = torch.multinomial(starts + 1e-9, ROUNDS).clamp(1, ids.shape[1] - STEPS)
    rows = torch.arange(len(ids))[:, None]
    keys = torch.arange(ids.shape[1])
    back = position[:, :, None] - keys
    seen = (back > 0) & (document[rows, position][:, :, None] == document[:, None, :])
    # A round at a document's second token sees at least its first.
    seen |= back == 1
    return Rounds(
        ids,
        out.last_hidden_state,
        dict(out.shared_kv_states),
        position,
        {
            "full_attention": seen[:, None],
            "sliding_attention": (seen & (back < WINDOW))[:, None],
        },
        learned,
    )


def step(
    drafter: Gemma4AssistantForCausalLM, rounds: Rounds, tokens: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """One drafting step of all rounds.

    Args:
        drafter: the drafter.
        rounds: where they stand and what they see.
        tokens: [rows, rounds, width], the last token's embedding in the target's table.
        hidden: [rows, rounds, width], what the step before left behind.

    Returns:
        logits [rows, rounds, vocabulary] and the hidden state for the next step.
    """
    out = drafter.model(
        inputs_embeds=drafter.pre_projection(torch.cat([tokens, hidden], -1)),
        attention_mask=rounds.masks,
        position_ids=rounds.position,
        shared_kv_states=rounds.shared,
        use_cache=False,
    ).last_hidden_state
    return drafter.lm_head(out), drafter.post_projection(out)


def divergences(
    target: Gemma4ForCausalLM, drafter: Gemma4AssistantForCausalLM, rounds: Rounds
) -> tuple[Tensor, Tensor]:
    """Kullback-Leibler divergence to the target and agreement of the arg-max, by step.

    The rounds go on along the batch's text; where the model's turn has ended nothing counts.
    """
    hidden = rounds.at(rounds.hidden, -1)
    valid = torch.ones_like(rounds.position, dtype=torch.bool)
    losses, agreed = [], []
    for offset in range(STEPS):
        tokens = target.model.embed_tokens(rounds.at(rounds.ids, offset))
        logits, hidden = step(drafter, rounds, tokens, hidden)
        valid = valid & rounds.at(rounds.learned, offset)
        with torch.no_grad():
            judge = target.lm_head(rounds.at(rounds.hidden, offset)[valid])
            judge = SOFTCAP * torch.tanh(judge / SOFTCAP)
        drafted = functional.log_softmax(logits[valid], -1)
        wanted = functional.log_softmax(judge, -1)
        losses.append(functional.kl_div(drafted, wanted, reduction="batchmean", log_target=True))
        agreed.append((drafted.argmax(-1) == wanted.argmax(-1)).float().mean())
    return torch.stack(losses), torch.stack(agreed)


def train(target_directory: Path, directory: Path, minutes: float) -> None:
    """Distils for the given minutes, saving now and then."""
    torch.manual_seed(corpus.TRAINING_SEED)
    target = Gemma4ForCausalLM.from_pretrained(target_directory, dtype=torch.float32).eval()
    target.requires_grad_(False)
    drafter = begin(target)
    drafter.generation_config = GenerationConfig(
        **{
            **target.generation_config.to_dict(),
            "num_assistant_tokens": 4,
            "num_assistant_tokens_schedule": "constant",
            "is_assistant": True,
        }
    )
    chosen = optimizers(drafter)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in chosen]
    clock, saved = Clock(minutes), time.monotonic()
    seed = corpus.TRAINING_SEED + 2
    for index, batch in enumerate(corpus.batches(target_directory, ROWS, LENGTH, seed)):
        rounds = observe(target, batch)
        losses, agreed = divergences(target, drafter, rounds)
        losses.mean().backward()
        nn.utils.clip_grad_norm_(drafter.parameters(), 1.0)
        for optimizer, rate in zip(chosen, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * clock.rate(index)
            optimizer.step()
            optimizer.zero_grad()
        if index % 10 == 0:
            shares = " ".join(f"{share:.2f}" for share in agreed.tolist())
            print(
                f"drafter {index} {clock.share():.3f} loss {losses.mean():.4f} agreed {shares}",
                flush=True,
            )
        if clock.share() >= 1 or time.monotonic() - saved > CHECKPOINT_S:
            save(drafter, directory)
            saved = time.monotonic()
        if clock.share() >= 1:
            return
