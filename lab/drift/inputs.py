"""The inputs of the lab: deterministic, of any size and length, with exact motion.

Made of the bundled clip, which training never saw, and of drawn pictures. A
camera moves over a still; in front of it a disc goes its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift.stills import disc as disc_picture
from lsd.lab.drift.stills import still
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.pipeline.suggest import did_you_mean
from lsd.stages.sources.shot import Pixels

LAP = 250  # frames of the periodic inputs; a multiple of the texture's period
CUT_EVERY = 300
SWITCH_EVERY = 500
DARK = 100  # frames before the scene of `black`
SENSOR_NOISE = 4.0  # grey levels, standard deviation

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


class Input(Protocol):
    """A stream of pictures in which every frame can be asked for.

    Attributes:
        period: frames after which pictures and motion repeat exactly, or None.
    """

    period: int | None

    def pixels(self, n: int) -> Pixels:
        """Return picture n, uint8 [H, W, 3] RGB; read only."""

    def motion(self, n: int) -> Motion | None:
        """Return how picture n moved from the one before; None where it does not follow it."""

    def is_cut(self, n: int) -> bool:
        """Return whether a new shot begins with picture n; the first does not count."""


def open_input(name: str, size: Size) -> Input:
    """Return the input called `name`, remembered for this process.

    Raises:
        ConfigError: there is none.
        SourceError: the bundled clip cannot be read.
    """
    if name not in INPUTS:
        raise ConfigError(f"no input {name!r}; {did_you_mean(name, INPUTS, 'the inputs are')}")
    return _remembered(name, size)


@lru_cache(maxsize=2)
def _remembered(name: str, size: Size) -> Input:
    return INPUTS[name](size)


class Moving:
    """A camera over a still, with or without a disc in front.

    Args:
        size: of the view.
        still: uint8 [h, w, 3].
        camera: where the view lies in the still.
        disc: where the view lies in the disc's picture, or None: no disc.
        period: as in `Input`.
        border: what lies around the still, a constant of OpenCV.
    """

    def __init__(
        self,
        size: Size,
        still: Pixels,
        camera: Path,
        disc: Path | None = None,
        *,
        period: int | None = None,
        border: int = cv2.BORDER_REFLECT_101,
    ) -> None:
        self.period = period
        self._size, self._still, self._border = size, still, border
        self._camera, self._disc = camera, disc
        self._cover = disc_picture(_radius(size)) if disc is not None else None
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
        now, before = (
            (n, n - 1) if self.period is None else (n % self.period, (n - 1) % self.period)
        )
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
        view = cv2.warpAffine(
            self._still, self._camera(n)[:2], self._size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=self._border,
        )  # fmt: skip
        if self._disc is not None and self._cover is not None:
            share = self._share(n)
            cover = cv2.warpAffine(
                self._cover[0], self._disc(n)[:2], self._size,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            view = cv2.blendLinear(cover, view, share, 1.0 - share)
        pixels = np.asarray(view, np.uint8)
        pixels.setflags(write=False)
        return pixels

    def _share(self, n: int) -> Array:
        """How much of each pixel the disc takes: float32 [H, W], 0 to 1."""
        if self._disc is None or self._cover is None:
            return np.zeros(self._size[::-1], np.float32)
        return np.asarray(
            cv2.warpAffine(
                self._cover[1], self._disc(n)[:2], self._size,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            )
        )  # fmt: skip


class Noisy:
    """Another input under a sensor's noise: its own in each frame, the same in each run."""

    period = None

    def __init__(self, behind: Input) -> None:
        self._behind = behind

    def pixels(self, n: int) -> Pixels:
        clean = self._behind.pixels(n)
        noise = np.random.Generator(np.random.Philox(key=n)).standard_normal(
            clean.shape, np.float32
        )
        return np.clip(np.round(clean + SENSOR_NOISE * noise), 0, 255).astype(np.uint8)

    def motion(self, n: int) -> Motion | None:
        return self._behind.motion(n)

    def is_cut(self, n: int) -> bool:
        return self._behind.is_cut(n)


@dataclass(frozen=True, slots=True)
class Shots:
    """Inputs one after the other, from the beginning again after the last.

    Attributes:
        shots: the inputs.
        lengths: frames of each.
    """

    shots: Sequence[Input]
    lengths: Sequence[int]
    period: None = None

    def pixels(self, n: int) -> Pixels:
        shot, own = self._at(n)
        return shot.pixels(own)

    def motion(self, n: int) -> Motion | None:
        shot, own = self._at(n)
        return shot.motion(own)

    def is_cut(self, n: int) -> bool:
        return n > 0 and self._at(n)[1] == 0

    def _at(self, n: int) -> tuple[Input, int]:
        n %= sum(self.lengths)
        for shot, length in zip(self.shots, self.lengths, strict=True):
            if n < length:
                return shot, n
            n -= length
        raise AssertionError("the lengths add up to more than n")


def _loop(size: Size) -> Input:
    return _wandering(size, 0, lambda n: 2 * np.pi * n / LAP, LAP)


def _aperiodic(size: Size) -> Input:
    # sqrt(2): the horizontal and the vertical sway never meet again
    return _wandering(size, 0, lambda n: 2 * np.pi * n / (100 * np.sqrt(2)), None)


def _static(size: Size) -> Input:
    return Moving(size, still(0, size), _resting(size, 0), period=1)


def _pan(size: Size) -> Input:
    picture = still(0, size)
    endless = np.concatenate([picture, picture[:, ::-1]], axis=1)
    step = 1.25 * _unit(size)
    top = (picture.shape[0] - size.height) / 2
    return Moving(
        size, endless, lambda n: _shift(step * n % endless.shape[1], top), border=cv2.BORDER_WRAP
    )


def _cuts(size: Size) -> Input:
    angle = 2 * np.pi / LAP
    shots = [_wandering(size, number, lambda n: angle * n, None) for number in range(4)]
    return Shots(shots, [CUT_EVERY] * len(shots))


def _black(size: Size) -> Input:
    dark = np.zeros((size.height, size.width, 3), np.uint8)
    # longer than any run: the dark comes but once
    return Shots([Moving(size, dark, lambda n: np.eye(3), period=1), _loop(size)], [DARK, 10**9])


def _noise(size: Size) -> Input:
    return Noisy(_static(size))


INPUTS: dict[str, Callable[[Size], Input]] = {
    "loop": _loop,
    "static": _static,
    "pan": _pan,
    "aperiodic": _aperiodic,
    "cuts": _cuts,
    "switches": _loop,
    "noise": _noise,
    "black": _black,
}


def _wandering(size: Size, number: int, angle: Callable[[int], float], period: int | None) -> Input:
    """A camera that sways, turns and zooms over still `number`, and the disc."""
    behind, unit = still(number, size), _unit(size)
    high, wide = behind.shape[:2]
    rate = np.sqrt(2) if period is None else 2.0

    def camera(n: int) -> Array:
        a = angle(n)
        turn, zoom = np.radians(2 * np.sin(a)), 1 + 0.05 * np.sin(a + 1)
        middle = wide / 2 + 40 * unit * np.sin(a), high / 2 + 26 * unit * np.sin(rate * a)
        return _placed(turn, zoom, middle, size)

    def disc(n: int) -> Array:
        a = angle(n)
        radius = _radius(size)
        x = size.width * (0.5 + 0.26 * np.cos(a))
        y = size.height * (0.5 + 0.22 * np.sin(rate * a + 0.5))
        return _shift(radius - x, radius - y)

    return Moving(size, behind, camera, disc, period=period)


def _resting(size: Size, number: int) -> Path:
    high, wide = still(number, size).shape[:2]
    return lambda n: _shift((wide - size.width) // 2, (high - size.height) // 2)


def _unit(size: Size) -> float:
    """What is a pixel at 256x256."""
    return min(size) / 256


def _radius(size: Size) -> int:
    return round(0.12 * min(size))


def _shift(x: float, y: float) -> Array:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _placed(turn: float, zoom: float, middle: tuple[float, float], size: Size) -> Array:
    """Map the view's middle to `middle`, turned and zoomed."""
    cos, sin = np.cos(turn) / zoom, np.sin(turn) / zoom
    around = np.array([[cos, -sin, middle[0]], [sin, cos, middle[1]], [0.0, 0.0, 1.0]])
    return around @ _shift(-size.width / 2, -size.height / 2)


def _carried(now: Array, before: Array, size: Size) -> Array:
    """Where in the last picture lies what each pixel shows: float32 [H, W, 2]."""
    matrix = np.linalg.inv(before) @ now
    where = _grid(size).astype(np.float64) @ matrix[:2, :2].T + matrix[:2, 2]
    return where.astype(np.float32)


@lru_cache(maxsize=2)
def _grid(size: Size) -> Array:
    x, y = np.meshgrid(np.arange(size.width), np.arange(size.height))
    return np.stack([x, y], -1).astype(np.float32)
