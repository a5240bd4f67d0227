"""What is done to a stream's history, once, to see whether it recovers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # a picture: float32 [H, W, 3] RGB in [0, 1]
Shock: TypeAlias = Callable[[Array], Array]

_KEY = 5
_RED = np.array([1, 0, 0], np.float32)

SHOCKS = ("noise", "cast", "blur", "black", "red", "salt", "scene", "shift", "nan")


def shocks(other: Array) -> Mapping[str, Shock]:
    """Return the SHOCKS by name; each takes the history and returns another.

    The results are in [0, 1] like any history, but for `nan`.

    Args:
        other: another scene's picture, of the same size.
    """
    return {
        "noise": partial(_noise, std=0.3),
        "cast": lambda y: np.clip(y + np.float32(0.2) * _RED, 0, 1),
        "blur": lambda y: np.asarray(cv2.GaussianBlur(y, (0, 0), 3.0 * min(y.shape[:2]) / 256)),
        "black": np.zeros_like,
        "red": lambda y: np.broadcast_to(_RED, y.shape).copy(),
        "salt": partial(_salt, share=0.05),
        "scene": lambda y: other.astype(np.float32),
        "shift": lambda y: np.roll(y, y.shape[1] // 2, axis=1),
        "nan": lambda y: np.full_like(y, np.nan),
    }


def noise_like(y: Array) -> Array:
    """Draw white Gaussian noise of unit variance, float32; always the same."""
    return np.random.Generator(np.random.Philox(key=_KEY)).standard_normal(y.shape, np.float32)


def _noise(y: Array, std: float) -> Array:
    return np.clip(y + std * noise_like(y), 0, 1).astype(np.float32)


def _salt(y: Array, share: float) -> Array:
    """Set a share of the pixels to white."""
    random = np.random.Generator(np.random.Philox(key=_KEY + 1))
    return np.where(random.random(y.shape[:2])[..., None] < share, np.float32(1), y)
