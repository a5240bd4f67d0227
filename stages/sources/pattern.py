"""test://NAME: moving pictures made of arithmetic, the same on every machine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lsd.pipeline.errors import SourceError
from lsd.pipeline.frame import Size
from lsd.pipeline.stage import Context
from lsd.pipeline.suggest import did_you_mean
from lsd.stages.sources.shot import Pixels, Shot
from lsd.stages.uri import Uri, parse_size

# How far the content moves from one picture to the next, (x, y) in pixels.
MOTION = {"bars": (2, 0), "checker": (1, 1), "moving": (3, -1)}
_BARS = np.array(
    [
        *[(235, 235, 235), (235, 235, 16), (16, 235, 235), (16, 235, 16)],
        *[(235, 16, 235), (235, 16, 16), (16, 16, 235), (16, 16, 16)],
    ],
    np.uint8,
)
_WAVES = 24  # enough that no two places look alike to the optical flow
_CYCLES = 10  # finest wave: 25 pixels at 256, well above what an 8-bit grid blurs


class PatternSettings(NamedTuple):
    """What `test://NAME?size=..&rate=..&frames=..&seed=..` says."""

    size: Size
    rate_hz: float
    frames: int | None
    seed: int


class TestPattern:
    """A moving picture that is the same on every machine; endless or `frames` long.

    bars: eight colours, scrolling right. checker: a board of grey fields,
    moving down and right. moving: a soft coloured texture, seeded. Each moves
    as a whole by its `MOTION` and wraps around at the edges.
    """

    timed = True
    __test__ = False  # the name starts as pytest's own classes do

    def __init__(self, name: str, settings: PatternSettings) -> None:
        self._settings = settings
        self._motion = MOTION[name]
        self._tile = _TILES[name](settings.size, settings.seed)
        self._index = 0
        self.period_ns = round(1e9 / settings.rate_hz)

    def read(self) -> Shot | None:
        index = self._index
        if index == self._settings.frames:
            return None
        self._index += 1
        pts_ns = round(index * 1_000_000_000 / self._settings.rate_hz)
        return Shot(self.picture(index), pts_ns, discontinuity=index == 0)

    def picture(self, index: int) -> Pixels:
        """Return picture `index`, uint8 [H, W, 3]; depends on nothing else."""
        dx, dy = self._motion
        return np.roll(self._tile, (index * dy, index * dx), axis=(0, 1))

    def expected(self) -> int | None:
        return self._settings.frames

    def close(self) -> None:
        pass


def open_source(uri: Uri, context: Context, loop: bool) -> TestPattern:
    """Make the pattern that `uri` names; size and rate default to the pipeline's.

    Raises:
        SourceError: unknown name or option, or a value out of range.
    """
    return TestPattern(uri.rest, settings_of(uri, context.size, context.rate_hz))


def settings_of(uri: Uri, size: Size, rate_hz: float) -> PatternSettings:
    """Read what `uri` says; `size` and `rate_hz` stand in for what it leaves out.

    Raises:
        SourceError: unknown name or option, or a value out of range.
    """
    if uri.rest not in MOTION:
        hint = did_you_mean(uri.rest, MOTION, "the patterns are")
        raise SourceError(f"{uri.text}: no such test pattern; {hint}")
    if complaint := uri.unknown("size", "rate", "frames", "seed"):
        raise SourceError(complaint)
    wanted = parse_size(uri.query.get("size", str(size)))
    if wanted is None or max(wanted) > 8192:
        raise _refusal(uri, "size", "a size such as 256x256, at most 8192x8192")
    frames = _count(uri, "frames") if "frames" in uri.query else None
    return PatternSettings(wanted, _rate(uri, rate_hz), frames, _count(uri, "seed"))


def _rate(uri: Uri, default: float) -> float:
    try:
        rate = float(uri.query.get("rate", default))
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise _refusal(uri, "rate", "pictures a second, above 0 and at most 1000")
    return rate


def _count(uri: Uri, key: str) -> int:
    text = uri.query.get(key, "0")
    if not (text.isascii() and text.isdecimal()):
        raise _refusal(uri, key, "a whole number, 0 or more")
    return int(text)


def _refusal(uri: Uri, key: str, expected: str) -> SourceError:
    return SourceError(f"{uri.text}: {key} is {uri.query.get(key)!r}, expected {expected}")


def _bars(size: Size, seed: int) -> Pixels:
    column = np.arange(size.width) * len(_BARS) // size.width
    return np.repeat(_BARS[column][None], size.height, axis=0)


def _checker(size: Size, seed: int) -> Pixels:
    field = max(1, min(size) // 8)
    y, x = np.indices((size.height, size.width)) // field
    grey = np.where((x + y) % 2 == 0, 208, 48).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _moving(size: Size, seed: int) -> Pixels:
    """A sum of waves with whole periods in both directions, so that it tiles."""
    random = np.random.default_rng(seed)
    y, x = np.indices((size.height, size.width), np.float64)
    total = np.zeros((size.height, size.width, 3))
    for _ in range(_WAVES):
        kx, ky = random.integers(-_CYCLES, _CYCLES + 1, 2)
        angle = 2 * np.pi * (kx * x / size.width + ky * y / size.height)
        total += np.cos(angle[..., None] + random.uniform(0, 2 * np.pi, 3))
    scaled: Pixels = (127.5 + total * (127.5 / np.abs(total).max())).round().astype(np.uint8)
    return scaled


_TILES = {"bars": _bars, "checker": _checker, "moving": _moving}
