"""The pictures that the lab's inputs are made of."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, TypeAlias

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.pipeline.errors import SourceError
from lsd.pipeline.frame import Size
from lsd.stages.sources.shot import Pixels

Array: TypeAlias = NDArray[Any]

ROOM = 1.5  # sides of a still over those of the view: what the camera has to move in
_KEY = 11  # of the drawn pictures


@lru_cache(maxsize=8)
def still(number: int, size: Size) -> Pixels:
    """Return still 0 to 3 with room around a view of `size`: two of the clip, two drawn.

    Returns:
        uint8 [h, w, 3] RGB, both sides at least ROOM times the view's; read only.

    Raises:
        SourceError: the bundled clip cannot be read.
    """
    if number % 2:
        picture = _leaves(number, round(ROOM * size.height), round(ROOM * size.width))
    else:
        picture = _enlarged(_clip_picture(30 if number == 0 else 150), size)
    picture.setflags(write=False)  # shared by all who ask for it
    return picture


def disc(radius: int) -> tuple[Pixels, Array]:
    """Return the disc's picture, uint8 [D, D, 3], and its shape, float32 [D, D], 0 to 1."""
    side = 2 * radius + 1
    y, x = np.indices((side, side), np.float32) - radius
    shape = np.clip(radius - 1 - np.sqrt(x * x + y * y), 0, 1).astype(np.float32)
    return _leaves(9, side, side), shape


def _enlarged(picture: Pixels, size: Size) -> Pixels:
    """Give a picture of any shape room around a view; wide ones stay wide."""
    scale = ROOM * max(size.height / picture.shape[0], size.width / picture.shape[1])
    large = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, large, interpolation=how), np.uint8)


@lru_cache(maxsize=2)
def _clip_picture(number: int) -> Pixels:
    path = str(files("lsd.configs.clips").joinpath("city.mp4"))
    try:
        with av.open(path) as container:
            for place, frame in enumerate(container.decode(video=0)):
                if place == number:
                    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (OSError, av.FFmpegError) as error:
        raise SourceError(f"{path}: cannot be read ({error}); reinstall livesd") from error
    raise SourceError(f"{path}: has no picture {number}; reinstall livesd")


def _leaves(key: int, height: int, width: int) -> Pixels:
    """Draw discs over each other, large to small: edges and areas of all sizes."""
    random = np.random.Generator(np.random.Philox(key=_KEY + key))
    picture = np.full((height, width, 3), 128, np.uint8)
    count = 400
    radii = np.geomspace(0.3, 0.015, count) * min(height, width)
    for radius in radii:
        x, y = random.uniform(0, width), random.uniform(0, height)
        colour = [int(c) for c in random.integers(16, 240, 3)]
        cv2.circle(picture, (int(x), int(y)), max(1, int(radius)), colour, -1, cv2.LINE_AA)
    return picture
