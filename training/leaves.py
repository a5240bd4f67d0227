"""Dead leaves: synthetic pictures with the local statistics of photographs.

Shapes of all sizes that hide one another have the edges, scales and contrasts
of natural scenes, without their licences (Ruderman 1997, Lee et al. 2001).
A teacher is a local filter, so this teaches the filter itself.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SHAPES = 1200
_WORDS = ("live", "OPEN", "24h", "metro", "x7", "stage", "Nord", "cafe", "EXIT", "1984")


def dead_leaves(rng: np.random.Generator, side: int) -> Array:
    """Draw a picture, uint8 [side, side, 3]; sizes follow a power law."""
    x = np.full((side, side, 3), _colour(rng), np.uint8)
    night = rng.random() < 0.3
    for radius in _radii(rng, side):
        centre = tuple(int(v) for v in rng.integers(0, side, 2))
        colour = _colour(rng)
        if night and rng.random() < 0.8:
            colour = tuple(0.2 * v for v in colour)
        _leaf(rng, x, centre, int(radius), colour)
    for _ in range(rng.integers(0, 6)):
        where = tuple(int(v) for v in rng.integers(0, side, 2))
        scale, thick = float(rng.uniform(0.5, 3.0)), int(rng.integers(1, 5))
        word = str(rng.choice(_WORDS))
        cv2.putText(
            x, word, where, cv2.FONT_HERSHEY_SIMPLEX, scale, _colour(rng), thick, cv2.LINE_AA
        )
    return _lit(rng, x)


def _radii(rng: np.random.Generator, side: int) -> Array:
    # density r^-3 between the limits, by the inverse of its distribution
    low, high = 9.0, side / 3
    u = rng.random(_SHAPES)
    return 1.0 / np.sqrt(u / high**2 + (1 - u) / low**2)


def _leaf(
    rng: np.random.Generator, x: Array, centre: tuple[int, ...], radius: int, colour: Any
) -> None:
    kind = rng.random()
    angle = float(rng.uniform(0, 360))
    if kind < 0.45:
        axes = (radius, max(1, int(radius * rng.uniform(0.3, 1.0))))
        cv2.ellipse(x, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    elif kind < 0.75:
        size = (2 * radius, max(1.0, 2 * radius * float(rng.uniform(0.1, 1.0))))
        corners = cv2.boxPoints((centre, size, angle)).astype(np.int32)
        cv2.fillConvexPoly(x, corners, colour, cv2.LINE_AA)
    elif kind < 0.9:
        points = (np.array(centre) + rng.normal(0, radius, (3, 2))).astype(np.int32)
        cv2.fillConvexPoly(x, cv2.convexHull(points), colour, cv2.LINE_AA)
    else:  # a grid of lights or lines: windows, fences, keyboards
        step = int(rng.integers(4, 14))
        for i in range(-radius, radius, step):
            start = (centre[0] - radius, centre[1] + i)
            cv2.line(x, start, (centre[0] + radius, centre[1] + i), colour, int(rng.integers(1, 4)))


def _colour(rng: np.random.Generator) -> tuple[float, ...]:
    grey = rng.uniform(0, 255)
    spread = 20.0 if rng.random() < 0.5 else 90.0
    return tuple(float(v) for v in np.clip(grey + rng.normal(0, spread, 3), 0, 255))


def _lit(rng: np.random.Generator, x: Array) -> Array:
    """Soften, and light unevenly: real surfaces are shaded."""
    soft = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.4, 1.1))).astype(np.float32)
    light = cv2.resize(rng.uniform(0.6, 1.3, (4, 4, 1)).astype(np.float32), x.shape[:2],
                       interpolation=cv2.INTER_CUBIC)  # fmt: skip
    grain = rng.normal(0, 1, (*x.shape[:2], 1)).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 1.2)[..., None]
    strength = rng.uniform(0, 14)
    return np.clip(soft * light[..., None] + strength * grain, 0, 255).astype(np.uint8)
