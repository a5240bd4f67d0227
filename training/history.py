"""What the network is shown as its past while it trains.

A network trained on clean history trusts it, and feeds on its own errors in
use. So its past is withheld, clean, corrupted, or its own prediction, and it
is told how corrupt nominally.

Source: diffusion forcing (Chen et al. 2024), GameNGen (Valevski et al. 2024).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

RUNTIME_LEVEL = 0.1  # what the network is told in use, and of its own roll-outs
NO_HISTORY = -1.0


def choose(
    rng: np.random.Generator, truth: Array, own: Array | None, rollouts: float = 0.35
) -> tuple[Array, float]:
    """Pick one sample's history.

    Args:
        rng: source of randomness.
        truth: float32 [H, W, 3] in [-1, 1], the teacher's previous picture, warped.
        own: the network's own previous prediction, warped; None where it has none.
        rollouts: share of own predictions.

    Returns:
        (history float32 [H, W, 3], the corruption level that the network is told).
    """
    kind = rng.random()
    if kind < 0.10:
        return truth, NO_HISTORY
    if kind < 0.10 + rollouts and own is not None:
        return (own, RUNTIME_LEVEL) if rng.random() < 0.7 else corrupt(rng, own)
    if kind < 0.25 + rollouts:
        return truth, RUNTIME_LEVEL
    return corrupt(rng, truth)


def corrupt(rng: np.random.Generator, picture: Array) -> tuple[Array, float]:
    """Damage a picture by a random level; one time in five without saying so."""
    level = float(rng.uniform(0.05, 1.0))
    x = picture
    for damage in rng.choice(len(_DAMAGES), int(rng.integers(1, 4)), replace=False):
        x = _DAMAGES[damage](rng, x, level)
    told = RUNTIME_LEVEL if rng.random() < 0.2 else level
    return np.clip(x, -1, 1).astype(np.float32), told


def _noise(rng: np.random.Generator, x: Array, level: float) -> Array:
    return x + rng.normal(0, 0.7 * level, x.shape)


def _colour(rng: np.random.Generator, x: Array, level: float) -> Array:
    return x * (1 + level * rng.uniform(-0.6, 0.6, 3)) + level * rng.uniform(-0.5, 0.5, 3)


def _gamma(rng: np.random.Generator, x: Array, level: float) -> Array:
    return ((np.clip(x, -1, 1) + 1) / 2) ** np.exp(level * rng.normal(0, 0.8)) * 2 - 1


def _blur_or_sharpen(rng: np.random.Generator, x: Array, level: float) -> Array:
    soft = cv2.GaussianBlur(x.astype(np.float32), (0, 0), 0.5 + 3 * level)
    return soft if rng.random() < 0.6 else x + 1.5 * level * (x - soft)


def _shift(rng: np.random.Generator, x: Array, level: float) -> Array:
    dx, dy = (rng.normal(0, 8 * level, 2)).round().astype(int)
    return np.roll(x, (dy, dx), (0, 1))


def _erase(rng: np.random.Generator, x: Array, level: float) -> Array:
    x = x.copy()
    h, w = x.shape[:2]
    for _ in range(1 + int(4 * level)):
        top, left = rng.integers(h), rng.integers(w)
        x[top : top + rng.integers(8, h // 2), left : left + rng.integers(8, w // 2)] = rng.uniform(
            -1, 1, 3
        )
    return x


def _fade(rng: np.random.Generator, x: Array, level: float) -> Array:
    return x + level * rng.uniform(0.3, 1.0) * (rng.uniform(-1, 1, 3) - x)


def _salt(rng: np.random.Generator, x: Array, level: float) -> Array:
    hit = rng.random(x.shape[:2]) < 0.15 * level
    return np.where(hit[..., None], rng.choice([-1.0, 1.0]), x)


def _quantise(rng: np.random.Generator, x: Array, level: float) -> Array:
    step = 0.05 + 0.5 * level
    return np.round(x / step) * step


_DAMAGES = (_noise, _noise, _colour, _colour, _gamma, _blur_or_sharpen, _shift, _erase, _fade,
            _salt, _quantise)  # fmt: skip
