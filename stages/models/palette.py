"""Palettes: five colours from dark to light, of a reference picture or of a seed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

COLOURS = 5
_THUMB = 64
_ROUNDS = 12


def palette_of(picture: Array) -> Array:
    """Return the colours that a picture is made of.

    K-means (Lloyd 1982) on a thumbnail, started from quantiles of the luma, so
    that equal pictures give equal palettes.

    Args:
        picture: uint8 [H, W, 3] RGB.

    Returns:
        float32 [COLOURS, 3] RGB in [0, 1], by rising luma.
    """
    small = cv2.resize(picture, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    pixels = small.reshape(-1, 3).astype(np.float32) / 255.0
    by_luma = pixels[np.argsort(_luma(pixels), kind="stable")]
    centres = np.stack([part.mean(0) for part in np.array_split(by_luma, COLOURS)])
    for _ in range(_ROUNDS):
        nearest = ((pixels[:, None] - centres) ** 2).sum(2).argmin(1)
        for k in range(COLOURS):
            if (nearest == k).any():
                centres[k] = pixels[nearest == k].mean(0)
    return _sorted(centres)


def seeded_palette(seed: int) -> Array:
    """Draw a palette from the stream's seed: two hues apart, from dark to light.

    Returns:
        float32 [COLOURS, 3] RGB in [0, 1], by rising luma.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 0x9A1E77E]))
    hue, apart = rng.uniform(0, 360), rng.choice([30.0, 90.0, 150.0, 180.0])
    hues = (hue + apart * np.linspace(0, 1, COLOURS) + rng.normal(0, 12, COLOURS)) % 360
    values = np.linspace(0.16, 0.98, COLOURS) + rng.normal(0, 0.03, COLOURS)
    saturations = np.linspace(0.85, 0.25, COLOURS) + rng.normal(0, 0.1, COLOURS)
    hsv = np.stack([hues, np.clip(saturations, 0, 1), np.clip(values, 0, 1)], 1)
    colours = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0]
    return _sorted(colours)


def _sorted(colours: Array) -> Array:
    order = np.argsort(_luma(colours), kind="stable")
    return np.clip(colours[order], 0.0, 1.0).astype(np.float32)


def _luma(colours: Array) -> Array:
    return np.asarray(colours @ np.array([0.299, 0.587, 0.114], np.float32))
