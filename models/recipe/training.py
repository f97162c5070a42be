"""Training loop of target and drafter, with Muon and AdamW and a fixed training time."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from localmtp.models.recipe.muon import Muon

RATE = 3e-3
"""Peak learning rate of both optimizers; Muon's updates are on AdamW's scale."""
CHECKPOINT_S = 150
"""Seconds between checkpoints."""
REPORT_STEPS = 10
"""Steps between progress lines."""
WARM_UP_STEPS = 30
FINAL = 0.02
"""Factor of the learning rate at the end."""


class Clock:
    """Measures elapsed time as a fraction of a training time, from construction on.

    Args:
        minutes: training time.
    """

    def __init__(self, minutes: float) -> None:
        self._started = time.monotonic()
        self._length = 60 * minutes

    def share(self) -> float:
        """Returns the fraction of the training time that has elapsed; more than 1 afterwards."""
        return (time.monotonic() - self._started) / self._length

    def rate(self, step: int) -> float:
        """Returns the factor of the learning rate: a warm-up by steps, then a cosine by time."""
        cosine = (1 + math.cos(math.pi * min(1.0, self.share()))) / 2
        return min(1.0, (step + 1) / WARM_UP_STEPS) * (FINAL + (1 - FINAL) * cosine)


def fit(
    model: nn.Module,
    losses: Iterator[tuple[Tensor, str]],
    clock: Clock,
    directory: Path,
    rate: float = RATE,
) -> None:
    """Trains until the clock's time has elapsed, and saves checkpoints.

    Args:
        model: the model to train.
        losses: yields the loss of the next batch under the current weights, and text for the
            progress line.
        clock: determines the learning rate and the end of training.
        directory: receives the checkpoints.
        rate: peak learning rate.
    """
    optimizers = _optimizers(model)
    saved, recent = time.monotonic(), []
    for step, (loss, note) in enumerate(losses):
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
            print(f"step {step} time {clock.share():.3f} loss {mean:.4f} {note}", flush=True)
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
    """Saves a checkpoint in the Hugging Face layout, in bfloat16 like published checkpoints."""
    state = {
        name: value.detach().to(torch.bfloat16)
        for name, value in model.state_dict().items()
        # The output head is tied to the embedding table.
        if name != "lm_head.weight"
    }
    model.save_pretrained(directory, state_dict=state)
    path = directory / "config.json"
    data = json.loads(path.read_text("utf-8"))
    data["dtype"] = "bfloat16"
    path.write_text(json.dumps(data, indent=2), "utf-8")


def soften(model: nn.Module) -> None:
    """Scales the queries' norm weights by 1/sqrt(head size), in place.

    Gemma 4 does not scale attention scores. With norm weights of 1 they differ so much at the start
    that each head attends to one random token and hardly learns to attend elsewhere.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("q_norm.weight"):
                parameter.mul_(len(parameter) ** -0.5)
