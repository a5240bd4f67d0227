"""Few-step sampling: noise levels, the deterministic Euler sampler.

Pure functions over a denoiser; the network, the engine and the noise are the
caller's.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lsd.kernels import ops

SIGMA_MAX = 10.0  # the field outweighs a styled picture (std 0.5) twenty to one
SIGMA_MIN = 0.02
RHO = 7.0
REFERENCE_STEPS = 20

Denoise = Callable[[Tensor, float], Tensor]


def noise_levels(steps: int) -> tuple[float, ...]:
    """Return the noise levels of an n-step schedule, `steps` of them.

    ``sigma_i = (max^(1/rho) + i/n (min^(1/rho) - max^(1/rho)))^rho`` for
    i = 0..n-1. Unlike EDM's eq. 5 the ramp is divided by n, not n - 1: with two
    steps the second then works at 0.87, where it can still change the picture,
    and not at sigma_min. What follows the last level is 0.

    >>> [round(s, 2) for s in noise_levels(2)]
    [10.0, 0.87]
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}, expected 1 or more")
    high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return tuple((high + i / steps * (low - high)) ** RHO for i in range(steps))


def sample(denoise: Denoise, field: Tensor, steps: int) -> Tensor:
    """Turn the texture field into a picture by the probability-flow ODE.

    Args:
        denoise: D(x, sigma) -> the estimate of the clean picture, in [-1, 1].
        field: float32 [1, 3, H, W], unit variance: the noise at sigma = 1.
        steps: denoiser calls, 1 or more; every step yields a picture.

    Returns:
        float32 [1, 3, H, W] in [-1, 1].

    Source: Karras et al. 2022 (EDM), algorithm 1, deterministic, Euler.
    """
    levels = noise_levels(steps)
    x = field * levels[0]
    for sigma, following in zip(levels, (*levels[1:], 0.0), strict=True):
        x = ops.denoise_step(x, denoise(x, sigma), sigma, following)
    return x
