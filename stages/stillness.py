"""When a stage would make the same picture again: nothing has changed since it made the last."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.frame import Frame
from lsd.pipeline.ladder import Rung
from lsd.pipeline.params import Params

# Compared are 8x8 parts of the picture, in grey levels. What 8 bits of a camera's noise
# (std 2) do: a part differs by 1.6 from itself, its mean by 0.2. What is not still: an
# object of 24x24 in 256x256 that moves by a pixel changes a part by 8; a fade by one level
# a frame, its mean by 1. The flow does not tell: the mean motion of that object is 0.01 px,
# and the flow of a fade is that of noise.
_PARTS = (8, 8)
MOST_DIFFERENT = 2.5
MOST_BRIGHTER = 0.35
# The blend lets any past fade by a factor of ten in so many pictures; before, a picture of
# a still input goes on becoming what it will be.
SETTLES = 15

Grey = NDArray[np.uint8]


class Stillness:
    """Compares each input with the one that the last picture was made of."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the last picture."""
        self._made: Grey | None = None
        self._params: Params | None = None
        self._rung: Rung | None = None
        self._settled = 0  # pictures in a row that were made of the same input
        self._seen: tuple[int, Grey] | None = None

    def is_still(self, frame: Frame) -> bool:
        """Return whether input and options are those of the last pictures, and these have settled.

        Args:
            frame: source uint8 [1, H, W, 3] on the host.
        """
        return self._settled >= SETTLES and self._is_same(frame)

    def made(self, frame: Frame, rung: Rung) -> None:
        """Note that a picture was made of `frame`, on `rung`."""
        same = rung == self._rung and self._is_same(frame)
        self._settled = self._settled + 1 if same else 0
        self._made, self._params, self._rung = self._grey(frame), frame.params, rung

    def _is_same(self, frame: Frame) -> bool:
        if self._made is None or frame.motion is None or frame.params is not self._params:
            return False
        return not has_changed(self._grey(frame), self._made)

    def _grey(self, frame: Frame) -> Grey:
        if self._seen is None or self._seen[0] != frame.seq:
            pixels = frame.source[0].numpy()
            self._seen = frame.seq, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        return self._seen[1]


def has_changed(now: Grey, before: Grey) -> bool:
    """Return whether two pictures, uint8 [H, W], differ by more than noise anywhere."""
    if _parts(cv2.absdiff(now, before)).max() > MOST_DIFFERENT:
        return True
    return bool(np.abs(_parts(now) - _parts(before)).max() > MOST_BRIGHTER)


def _parts(grey: Any) -> NDArray[np.float32]:
    # Whole numbers would be rounded.
    small = cv2.resize(grey.astype(np.float32), _PARTS, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)
