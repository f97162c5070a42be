"""Distils a drafter from its target.

As in use, all steps of one round stand at one position and see the keys before it; each step takes
the token before the one to be predicted, with the hidden row of the target (first step) or of the
drafter itself (later steps). Rounds are drawn at many positions of a batch at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Gemma4AssistantForCausalLM, Gemma4ForCausalLM

from localmtp.models.recipe import corpus
from localmtp.models.recipe.schedule import Clock
from localmtp.models.recipe.target import SOFTCAP, WINDOW, masks
from localmtp.models.recipe.training import fit

STEPS = 8
"""Drafts per round. Acceptance falls off behind the number that was distilled."""
ROWS, LENGTH, ROUNDS = 4, 512, 128
"""Rows in a batch, their length, and the rounds drawn in each row."""


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
    learned = torch.from_numpy(batch.weight)[:, 1:] > 0
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


def train(
    target: Gemma4ForCausalLM,
    drafter: Gemma4AssistantForCausalLM,
    draw: corpus.Draw,
    directory: Path,
    minutes: float,
) -> None:
    """Distils for the given minutes beside the tokenizer in directory."""
    target.eval().requires_grad_(False)
    clock = Clock(minutes)
    fit(drafter, _losses(target, drafter, draw, directory), clock, directory)


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
