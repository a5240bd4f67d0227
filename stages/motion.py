"""How the input moved: optical flow from the last admitted picture to this one."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.frame import Size
from lsd.stages.sources.shot import Pixels

# The flow is computed at the picture's size divided by the smallest whole
# number that brings it to this length. At 512x512 that is half: 1.9 instead of
# 6.7 ms on the bundled clip, and the last picture warped by it is off by 2.8
# instead of 2.3 grey levels (unwarped: 5.1).
FLOW_SIDE = 320

# A cut: the thumbnail differs by this much (mean grey levels) from the last one,
# and is like it (correlation) neither as it is nor with the motion taken out.
# In 4,000 pictures of an animated film the 28 cuts differed by 33 or more and
# correlated 0.50 or less (the bundled clip's cut: 45 and 0.63); of the pictures
# without a cut one differed by more than 15, a whip pan that correlated 0.74.
# A camera flash differs too, but stays correlated as it is.
CUT_DIFFERENCE = 15.0
CUT_CORRELATION = 0.7
_THUMB = (32, 32)


class MotionEstimator:
    """Remembers the last picture and says how the next one moved from it.

    DIS optical flow (Kroeger et al. 2016, arXiv:1603.03590), OpenCV's
    ULTRAFAST preset, on one thread. At 256x256 it takes 0.9 ms.

    Args:
        size: of all pictures to come.
    """

    def __init__(self, size: Size) -> None:
        # The other core is busy: OpenCV's threads would wait for it.
        cv2.setNumThreads(1)
        self._size = size
        factor = -(-max(size) // FLOW_SIDE)
        self._small = Size(max(1, size.width // factor), max(1, size.height // factor))
        # OpenCV's type stubs leave this one out.
        create: Any = cv2.DISOpticalFlow_create  # type: ignore[attr-defined]
        self._dis = create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._last: NDArray[np.uint8] | None = None

    def step(self, pixels: Pixels, *, reset: bool) -> NDArray[np.float32] | None:
        """Take the next picture; return how it moved since the last one.

        Args:
            pixels: uint8 [H, W, 3] RGB.
            reset: this picture does not follow the last one.

        Returns:
            float32 [H, W, 2], pixels: what is at (x, y) now was at
            (x + dx, y + dy) before. None: nothing before, `reset`, or a cut.
        """
        grey = self._grey(pixels)
        last, self._last = None if reset else self._last, grey
        if last is None:
            return None
        flow: NDArray[np.float32] = self._dis.calc(grey, last, None)
        return None if is_cut(grey, last, flow) else self._scale_up(flow)

    def _grey(self, pixels: Pixels) -> NDArray[np.uint8]:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        if self._small != self._size:
            grey = cv2.resize(grey, self._small, interpolation=cv2.INTER_AREA)
        return np.asarray(grey, np.uint8)

    def _scale_up(self, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._small == self._size:
            return flow
        large = np.asarray(cv2.resize(flow, self._size, interpolation=cv2.INTER_LINEAR), np.float32)
        large *= np.divide(self._size, self._small, dtype=np.float32)
        return large


def is_cut(grey: NDArray[np.uint8], last: NDArray[np.uint8], flow: NDArray[np.float32]) -> bool:
    """Return whether `grey` begins a new shot.

    Args:
        grey: uint8 [H, W], this picture.
        last: the same of the last picture.
        flow: float32 [H, W, 2], from this picture back to the last.
    """
    now, before = _thumbnail(grey), _thumbnail(last)
    if float(np.abs(now - before).mean()) < CUT_DIFFERENCE:
        return False
    if _correlation(now, before) > CUT_CORRELATION:
        return False
    y, x = np.indices(grey.shape, np.float32)
    moved = cv2.remap(
        last,
        x + flow[..., 0],
        y + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _correlation(now, _thumbnail(np.asarray(moved, np.uint8))) < CUT_CORRELATION


def _thumbnail(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.resize(grey, _THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return Pearson's correlation; 0 where one of them is flat."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
