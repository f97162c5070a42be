"""The loop that target and drafter are trained in: Muon and AdamW, by the clock."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from localmtp.models.recipe.muon import Muon
from localmtp.models.recipe.schedule import Clock

RATE = 3e-3
"""Peak learning rate of both optimizers; Muon's updates are on AdamW's scale."""
CHECKPOINT_S = 150
REPORT_STEPS = 10


def fit(
    model: nn.Module,
    losses: Iterator[tuple[Tensor, str]],
    clock: Clock,
    directory: Path,
    rate: float = RATE,
) -> None:
    """Trains until the clock has run out, saving now and then.

    Args:
        model: what is trained.
        losses: each next item is the loss of the next batch under the model as it then is, with
            words for the report.
        clock: gives the learning rate and the end.
        directory: receives the checkpoint.
        rate: peak learning rate.
    """
    optimizers = _optimizers(model)
    saved, recent = time.monotonic(), []
    for step, (loss, words) in enumerate(losses):
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * clock.rate(step)
            optimizer.step()
            optimizer.zero_grad()
        recent.append(loss.item())
        over = clock.share() >= 1
        if step % REPORT_STEPS == 0 or over:
            mean = sum(recent) / len(recent)
            print(f"step {step} time {clock.share():.3f} loss {mean:.4f} {words}", flush=True)
            recent.clear()
        if over or time.monotonic() - saved > CHECKPOINT_S:
            save(model, directory)
            saved = time.monotonic()
        if over:
            return


def _optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and vectors."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and "embed" not in name
        (matrices if inside else rest).append(parameter)
    return [
        Muon(matrices, lr=RATE),
        torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def save(model: nn.Module, directory: Path) -> None:
    """Writes the checkpoint as transformers does, in bfloat16 as published checkpoints are."""
    state = {
        name: value.detach().to(torch.bfloat16)
        for name, value in model.state_dict().items()
        # The output head is the embedding table.
        if name != "lm_head.weight"
    }
    model.save_pretrained(directory, state_dict=state)
    path = directory / "config.json"
    data = json.loads(path.read_text("utf-8"))
    data["dtype"] = "bfloat16"
    path.write_text(json.dumps(data, indent=2), "utf-8")


def soften(model: nn.Module) -> None:
    """Scales the queries' norms by 1/sqrt(head size).

    Gemma 4 does not scale attention scores: with norms of 1 they are so far apart at the start
    that each head looks at one random token, and hardly learns to look elsewhere.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("q_norm.weight"):
                parameter.mul_(len(parameter) ** -0.5)
