"""The inputs of the lab: deterministic, of any size and length, with exact motion.

Made of the bundled clip, which training never saw, and of drawn pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift.moving import Motion, Moving, Path, disc_radius, placed, shift
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


class Input(Protocol):
    """A stream of pictures in which every frame can be asked for."""

    @property
    def period(self) -> int | None:
        """Frames after which pictures and motion repeat exactly; None: they never do."""

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
    # mirrored, so that its end meets its beginning
    endless = np.concatenate([picture, picture[:, ::-1]], axis=1)
    step = 1.25 * _unit(size)
    top = (picture.shape[0] - size.height) / 2
    return Moving(size, endless, lambda n: shift(step * n, top), endless=True)


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
        return placed(turn, zoom, middle, size)

    def disc(n: int) -> Array:
        a = angle(n)
        radius = disc_radius(size)
        x = size.width * (0.5 + 0.26 * np.cos(a))
        y = size.height * (0.5 + 0.22 * np.sin(rate * a + 0.5))
        return shift(radius - x, radius - y)

    return Moving(size, behind, camera, disc, period=period)


def _resting(size: Size, number: int) -> Path:
    high, wide = still(number, size).shape[:2]
    return lambda n: shift((wide - size.width) // 2, (high - size.height) // 2)


def _unit(size: Size) -> float:
    """What is a pixel at 256x256."""
    return min(size) / 256
