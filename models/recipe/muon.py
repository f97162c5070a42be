"""The Muon optimizer (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) in float32.

PyTorch's implementation orthogonalizes in bfloat16, which processors without that type emulate, at
a tenth of the speed of float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration in the original description."""


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Orthogonalized momentum: every direction of a matrix learns at the same rate.

    Args:
        params: matrices.
        lr: learning rate on AdamW's scale (updates are scaled to a root mean square of 0.2).
        momentum: Nesterov momentum.
        weight_decay: decoupled weight decay.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def step(self) -> None:
        """Updates all parameters once; matrices of one shape are orthogonalized together."""
        with torch.no_grad():
            self._step()

    def _step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                updates = torch.stack([self._momentum(p, group["momentum"]) for p in params])
                scale = group["lr"] * 0.2 * max(shape) ** 0.5
                for p, update in zip(params, _orthogonal(updates), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-scale)

    def _momentum(self, p: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
        buffer.lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(buffer, momentum)


def _orthogonal(x: torch.Tensor) -> torch.Tensor:
    """Moves the singular values of matrices [n, rows, columns] to about 1."""
    a, b, c = _COEFFICIENTS
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return x.mT if tall else x
