"""Few-step sampling: noise levels, and the sampler that noises each estimate with one field.

Pure functions over a denoiser; the network, the engine and the noise are the
caller's.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lsd.kernels import ops

SIGMA_MAX = 10.0  # the field outweighs a styled picture (std 0.5) twenty to one
SIGMA_MIN = 0.005
REFERENCE_STEPS = 20

# D(x, estimate, sigma): the estimate is what the last step made, None at the first
Denoise = Callable[[Tensor, Tensor | None, float], Tensor]


def noise_levels(steps: int) -> tuple[float, ...]:
    """Return the noise levels of an n-step schedule, `steps` of them, a geometric series.

    ``sigma_i = max (min / max)^(i/n)`` for i = 0..n-1; what follows the last is 0.
    It is EDM's ramp (Karras et al. 2022, eq. 5) for rho to infinity, divided by
    n and not by n - 1: with two steps the second works at 0.22, where the last
    estimate outweighs the noise and detail can still change.

    >>> [round(s, 2) for s in noise_levels(2)]
    [10.0, 0.22]
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}, expected 1 or more")
    return tuple(SIGMA_MAX * (SIGMA_MIN / SIGMA_MAX) ** (i / steps) for i in range(steps))


def _always() -> bool:
    return True


def sample(
    denoise: Denoise, field: Tensor, steps: int, may_go_on: Callable[[], bool] = _always
) -> Tensor:
    """Turn the texture field into a picture: estimate it, noise the estimate less, and again.

    Args:
        denoise: D(x, estimate, sigma) -> the clean picture, in [-1, 1].
        field: float32 [1, 3, H, W], unit variance: the noise at sigma = 1.
        steps: denoiser calls, 1 or more; every step yields a picture.
        may_go_on: asked between two of them; False makes the last estimate the picture.

    Returns:
        float32 [1, 3, H, W] in [-1, 1].

    Each step sees ``x_i = (1 - s_i / s_0) D_(i-1) + s_i field``, of the form that training shows it
    (with the first estimate for D). That is multistep consistency sampling (Song et al. 2023,
    arXiv:2303.01469, algorithm 1) with the stream's field for its fresh noise, and every step
    told the last one's estimate (Chen et al. 2022, self-conditioning). For one and two steps it
    is the Euler step of the probability-flow ODE too; further on, the ODE leaves in x what
    earlier estimates had otherwise, over an ever smaller sigma (docs/decisions/0004).
    """
    levels = noise_levels(steps)
    noisy = x = ops.scaled(field, levels[0])
    estimate = None
    for sigma, following in zip(levels, (*levels[1:], 0.0), strict=True):
        estimate = denoise(x, estimate, sigma)
        if following and not may_go_on():
            return ops.denoise_step(noisy, estimate, levels[0], 0.0)
        x = ops.denoise_step(noisy, estimate, levels[0], following)
    return x
