"""Muon: momentum whose matrix is made orthogonal before it is applied.

Every direction of a layer's input then learns at the same pace; on small
convolutional networks it needs fewer samples than Adam.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers"; the
coefficients of the Newton-Schulz iteration are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from training.precision import COMPUTE

_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """For convolution kernels, seen as matrices [out, in * height * width].

    Args:
        params: kernels, float32 [out, in, height, width].
        lr: step, of a root mean square of about 0.2 an element per unit.
        momentum: of the moving average, Nesterov's form.
        weight_decay: share of a kernel that a step of lr 1 would take away.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Apply the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                average = state.setdefault("momentum", torch.zeros_like(p))
                average.lerp_(p.grad, 1.0 - group["momentum"])
                ahead = torch.lerp(p.grad, average, group["momentum"])
                update = orthogonal(ahead.flatten(1)).view_as(p)
                rows, columns = p.shape[0], p[0].numel()
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Return the nearest semi-orthogonal matrix, roughly: singular values of 0.7 to 1.2."""
    x = matrix.to(COMPUTE)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
