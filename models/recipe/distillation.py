"""Distils a drafter from its target.

As in inference, all draft steps of one round are at the same position and attend to the keys before
it. The input of a step is the previous token and a hidden state: the target's in the first step,
the drafter's own in later steps. Many rounds per row are trained together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Gemma4AssistantForCausalLM, Gemma4ForCausalLM

from localmtp.models.recipe import corpus
from localmtp.models.recipe.target import SOFTCAP, WINDOW, masks
from localmtp.models.recipe.training import RATE, Clock, fit

STEPS = 8
"""Draft steps per round. Acceptance drops at positions beyond it."""
ROWS, LENGTH, ROUNDS = 4, 512, 128
"""Rows per batch, tokens per row, and rounds per row."""


@dataclass(frozen=True, slots=True)
class DraftRounds:
    """Outputs of the frozen target for a batch, and the positions at which rounds start."""

    ids: Tensor
    """Token ids [rows, length]."""
    hidden: Tensor
    """Hidden states [rows, length, width] after the final norm."""
    shared: dict[str, tuple[Tensor, Tensor]]
    """Keys and values that the drafter reads, by layer type."""
    position: Tensor
    """Position [rows, rounds] of the last committed token."""
    masks: dict[str, Tensor]
    """Attention masks [rows, 1, rounds, length], by layer type."""
    learned: Tensor
    """[rows, length]: whether the next token is learned."""

    def at(self, values: Tensor, offset: int) -> Tensor:
        """Gathers values [rows, length, …] at each round's position + offset: [rows, rounds, …]."""
        rows = torch.arange(values.shape[0])[:, None]
        return values[rows, self.position + offset]


def observe(target: Gemma4ForCausalLM, batch: corpus.TokenBatch) -> DraftRounds:
    """Runs the target over a batch and draws rounds within the model's turns."""
    ids = torch.from_numpy(batch.ids)[:, :-1]
    document = torch.from_numpy(batch.document)[:, :-1]
    with torch.no_grad():
        out = target.model(
            input_ids=ids,
            attention_mask=masks(document),
            use_cache=False,
            return_shared_kv_states=True,
        )
    learned = torch.from_numpy(batch.weight)[:, 1:] > 0
    # A round starts where the next token is learned and STEPS tokens follow in the row.
    starts = learned.float()
    starts[:, 0] = 0
    starts[:, -STEPS:] = 0
    position = torch.multinomial(starts + 1e-9, ROUNDS).clamp(1, ids.shape[1] - STEPS)
    rows = torch.arange(len(ids))[:, None]
    keys = torch.arange(ids.shape[1])
    back = position[:, :, None] - keys
    seen = (back > 0) & (document[rows, position][:, :, None] == document[:, None, :])
    # A round at a conversation's second token sees at least its first.
    seen |= back == 1
    return DraftRounds(
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
    drafter: Gemma4AssistantForCausalLM, rounds: DraftRounds, tokens: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs one draft step of all rounds.

    Args:
        drafter: the drafter.
        rounds: positions and attention masks of the rounds.
        tokens: [rows, rounds, width], embedding of the previous token in the target's table.
        hidden: [rows, rounds, width], hidden state from the previous step.

    Returns:
        Logits [rows, rounds, vocabulary], and the hidden state for the next step.
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
    target: Gemma4ForCausalLM, drafter: Gemma4AssistantForCausalLM, rounds: DraftRounds
) -> tuple[Tensor, Tensor]:
    """Computes the KL divergence from the target and the agreement of the arg-max, per step.

    Rounds follow the batch's text; steps after the end of the model's turn are ignored.

    Returns:
        Divergences [STEPS] in nats, and fractions of agreeing steps [STEPS].
    """
    hidden = rounds.at(rounds.hidden, -1)
    valid = torch.ones_like(rounds.position, dtype=torch.bool)
    losses, agreed = [], []
    for offset in range(STEPS):
        tokens = target.model.embed_tokens(rounds.at(rounds.ids, offset))
        logits, hidden = step(drafter, rounds, tokens, hidden)
        valid = valid & rounds.at(rounds.learned, offset)
        with torch.no_grad():
            reference = target.lm_head(rounds.at(rounds.hidden, offset)[valid])
            reference = SOFTCAP * torch.tanh(reference / SOFTCAP)
        drafted = functional.log_softmax(logits[valid], -1)
        expected = functional.log_softmax(reference, -1)
        losses.append(functional.kl_div(drafted, expected, reduction="batchmean", log_target=True))
        agreed.append((drafted.argmax(-1) == expected.argmax(-1)).float().mean())
    return torch.stack(losses), torch.stack(agreed)


def train(
    target: Gemma4ForCausalLM,
    drafter: Gemma4AssistantForCausalLM,
    draw: corpus.Draw,
    directory: Path,
    minutes: float,
    rate: float = RATE,
) -> None:
    """Distils for the given minutes and saves to `directory`, which has the tokenizer."""
    target.eval().requires_grad_(False)
    clock = Clock(minutes)
    fit(drafter, _losses(target, drafter, draw, directory), clock, directory, rate)


def _losses(
    target: Gemma4ForCausalLM,
    drafter: Gemma4AssistantForCausalLM,
    draw: corpus.Draw,
    directory: Path,
) -> Iterator[tuple[Tensor, str]]:
    for batch in corpus.batches(draw, directory, ROWS, LENGTH, corpus.DISTILLATION_SEED):
        losses, agreed = divergences(target, drafter, observe(target, batch))
        shares = " ".join(f"{share:.2f}" for share in agreed.tolist())
        yield losses.mean(), f"agreed {shares}"
