"""A camera over a still, with or without a disc in front; every motion is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift.stills import disc as disc_picture
from lsd.pipeline.frame import Size
from lsd.stages.sources.shot import Pixels

Array: TypeAlias = NDArray[Any]
Path: TypeAlias = Callable[[int], Array]  # frame -> float64 [3, 3], from the view's pixels


class Motion(NamedTuple):
    """Exact motion from the last picture to this one.

    Attributes:
        flow: float32 [H, W, 2], pixels: what is at (x, y) now was at (x + dx, y + dy).
        visible: bool [H, W], whether the last picture showed what is here now.
    """

    flow: Array
    visible: Array


class Moving:
    """An `Input` of one shot.

    Args:
        size: of the view.
        still: uint8 [h, w, 3].
        camera: where the view lies in the still.
        disc: where the view lies in the disc's picture, or None: no disc.
        period: as in `Input`.
        endless: whether the still goes on to its right with itself; else mirrored.
    """

    def __init__(
        self,
        size: Size,
        still: Pixels,
        camera: Path,
        disc: Path | None = None,
        *,
        period: int | None = None,
        endless: bool = False,
    ) -> None:
        self.period = period
        self._size, self._still, self._endless = size, still, endless
        self._camera, self._disc = camera, disc
        self._cover = disc_picture(disc_radius(size)) if disc is not None else None
        self._lap: dict[int, Pixels] = {}

    def pixels(self, n: int) -> Pixels:
        if self.period is None:
            return self._draw(n)
        place = n % self.period
        if place not in self._lap:
            self._lap[place] = self._draw(place)
        return self._lap[place]

    def motion(self, n: int) -> Motion | None:
        if n == 0:
            return None
        now, before = (m if self.period is None else m % self.period for m in (n, n - 1))
        where = _carried(self._camera(now), self._camera(before), self._size)
        share = self._share(now)
        if self._disc is not None:
            own = _carried(self._disc(now), self._disc(before), self._size)
            where = np.where(share[..., None] > 0.5, own, where)
        right, down = self._size.width - 1, self._size.height - 1
        inside = (where >= 0).all(-1) & (where[..., 0] <= right) & (where[..., 1] <= down)
        then = cv2.remap(self._share(before), where[..., 0], where[..., 1], cv2.INTER_LINEAR)
        # pixels on the disc's soft edge show two things that move differently
        same = ((share > 0.99) & (then > 0.99)) | ((share < 0.01) & (then < 0.01))
        return Motion(where - _grid(self._size), inside & same)

    def is_cut(self, n: int) -> bool:
        return False

    def _draw(self, n: int) -> Pixels:
        view = self._seen(n)
        if self._disc is not None and self._cover is not None:
            share = self._share(n)
            cover = cv2.warpAffine(
                self._cover[0], self._disc(n)[:2], self._size,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            view = np.asarray(cv2.blendLinear(cover, view, share, 1.0 - share), np.uint8)
        view.setflags(write=False)
        return view

    def _seen(self, n: int) -> Pixels:
        """What the camera sees behind the disc."""
        camera = self._camera(n)[:2].copy()
        border = cv2.BORDER_REFLECT_101
        if self._endless:
            border = cv2.BORDER_WRAP
            # OpenCV holds places in 16 bits, or as floats: a long pan would come to their end
            camera[0, 2] %= self._still.shape[1]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(self._still, camera, self._size, flags=flags, borderMode=border)
        return np.asarray(view, np.uint8)

    def _share(self, n: int) -> Array:
        """How much of each pixel the disc takes: float32 [H, W], 0 to 1."""
        if self._disc is None or self._cover is None:
            return np.zeros(self._size[::-1], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(self._cover[1], self._disc(n)[:2], self._size, flags=flags)
        )


def disc_radius(size: Size) -> int:
    """Return the radius of the disc in front of a view, pixels."""
    return round(0.12 * min(size))


def shift(x: float, y: float) -> Array:
    """Return the place of a view whose upper left pixel lies at (x, y)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def placed(turn: float, zoom: float, middle: tuple[float, float], size: Size) -> Array:
    """Return the place of a view whose middle lies at `middle`, turned (radians) and zoomed."""
    cos, sin = np.cos(turn) / zoom, np.sin(turn) / zoom
    around = np.array([[cos, -sin, middle[0]], [sin, cos, middle[1]], [0.0, 0.0, 1.0]])
    return around @ shift(-size.width / 2, -size.height / 2)


def _carried(now: Array, before: Array, size: Size) -> Array:
    """Where in the last picture lies what each pixel shows: float32 [H, W, 2]."""
    (right, across, left), (down, along, top) = (np.linalg.inv(before) @ now)[:2]
    x, y = np.arange(size.width), np.arange(size.height)[:, None]
    where = np.empty((size.height, size.width, 2), np.float32)
    where[..., 0] = right * x + (across * y + left)
    where[..., 1] = down * x + (along * y + top)
    return where


@lru_cache(maxsize=2)
def _grid(size: Size) -> Array:
    x, y = np.meshgrid(np.arange(size.width), np.arange(size.height))
    return np.stack([x, y], -1).astype(np.float32)
