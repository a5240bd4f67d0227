"""How a camera's exposure and white balance changed from one picture to another.

A camera's gain is the same all over the picture, and that is how it is told
from everything else that changes: each part of the picture is compared with
what it showed before, and only what the parts agree on is a gain.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from lsd.pipeline.frame import Flow, Picture

Array = npt.NDArray[Any]

CELLS = 64  # a side of the small picture that is compared
# A warped picture is softer than the new one, and around a limit of brightness
# that alone looks like a gain: .005 a frame on a night street. Both are made
# soft beforehand, and cells near clipping count less and less.
_SOFTENED = 5  # cells
_CLIPPED, _SHOULDER = 240.0, 80.0  # grey levels: weight 0 from here, and falling before
_DARK = 8.0  # grey levels below which rounding is as large as a gain
_PARTS = 4  # a side: the picture is compared in 16 parts
_SEEN = 0.25  # share of a part that must be comparable
_ENOUGH = 6  # parts
# What motion and sensor noise leave was at most .0063, and 1.3 spreads, in 500
# frames of each of the drift lab's inputs at 64x64 and 256x256. Beyond both it is a gain.
_NOISE = 0.008
_AGREED = 2.0  # spreads
_KEY = 16  # a side of what a view is known by
KEY_SIZE = 3 * _KEY * _KEY
_FLAT = 0.1  # deviation of the log, below which there is nothing to know a view by


def shrunk(source: Picture) -> Array:
    """Return the picture that is compared: float32 [CELLS, CELLS, 3], 0 to 255.

    Args:
        source: uint8 [1, H, W, 3].
    """
    small = cv2.resize(source[0].numpy(), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    side = (_SOFTENED, _SOFTENED)
    return cv2.blur(small.astype(np.float32), side, borderType=cv2.BORDER_REPLICATE)


def gain(now: Array, then: Array, motion: Flow | None = None) -> Array | None:
    """Measure the camera's gain between two pictures.

    Args:
        now: as `shrunk`.
        then: the same of an earlier picture of the same view.
        motion: float32 [1, H, W, 2] from `now` to `then`; None: none.

    Returns:
        float32 [3], the log of a factor a channel; all 0 where the parts agree on
        none. None: too dark, too bright or too little in common to tell.
    """
    weight = np.ones((CELLS, CELLS), np.float32)
    if motion is not None:
        then, weight = _moved(then, motion)
    red, green, blue = np.moveaxis(np.maximum(now, then), 2, 0)  # a third of the time of max(2)
    high = np.maximum(np.maximum(red, green), blue)
    weight *= np.clip((_CLIPPED - high) / _SHOULDER, 0.0, 1.0)
    packed = np.dstack([now * weight[..., None], then * weight[..., None], weight])
    parts = cv2.resize(packed, (_PARTS, _PARTS), interpolation=cv2.INTER_AREA).reshape(-1, 7)
    share = parts[:, 6]
    lit = (share >= _SEEN) & (parts[:, :6].min(1) >= _DARK * share)
    if lit.sum() < _ENOUGH:
        return None
    steps = np.log(parts[lit, :3] / parts[lit, 3:6])
    agreed: Array = np.median(steps, axis=0)
    # people and lamps may do as they like in a third of the picture
    spread = np.sort(np.abs(steps - agreed).max(1))[2 * len(steps) // 3]
    is_gain = np.abs(agreed).max() > max(_NOISE, _AGREED * spread)
    return agreed if is_gain else np.zeros(3, np.float32)


def key(view: Array) -> torch.Tensor | None:
    """Describe a view whatever its exposure; None where it is too flat to be known.

    Two keys' cosine is the correlation of the log pictures.

    Args:
        view: as `shrunk`.

    Returns:
        float32 [KEY_SIZE].
    """
    small = cv2.resize(view, (_KEY, _KEY), interpolation=cv2.INTER_AREA)
    logs = np.log(np.maximum(small, _DARK))
    about = logs - logs.mean((0, 1))
    return None if about.std() < _FLAT else torch.from_numpy(about.ravel())


def scaled(source: Picture, factors: Array) -> Picture:
    """Multiply each channel; uint8 [1, H, W, 3], rounded and clipped.

    Args:
        source: uint8 [1, H, W, 3].
        factors: float32 [3].
    """
    levels = np.arange(256, dtype=np.float32)[:, None] * factors
    table = np.clip(np.round(levels), 0, 255).astype(np.uint8)[None]
    return torch.from_numpy(np.asarray(cv2.LUT(source[0].numpy(), table)))[None]


def _moved(then: Array, motion: Flow) -> tuple[Array, Array]:
    """Show `then` where it is now; and 1 where that was in sight, else 0."""
    rows, columns = motion.shape[1:3]
    flow = cv2.resize(motion[0].numpy(), (CELLS, CELLS), interpolation=cv2.INTER_LINEAR)
    where = _GRID + flow * np.divide(CELLS, (columns, rows), dtype=np.float32)
    unused: Any = None  # OpenCV's type stubs want a second map
    moved = cv2.remap(then, where, unused, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((where >= 1) & (where <= CELLS - 2)).all(-1)
    return np.asarray(moved), np.asarray(inside, np.float32)


_GRID = np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS)), -1).astype(np.float32)
