"""Measures a recorded stream of any system, beside a reference or by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift import metrics
from lsd.lab.drift.film import Film
from lsd.lab.drift.measure import SHEETS
from lsd.lab.drift.protocol import MIN_FRAMES
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.wording import duration, plural
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.stages.motion import MotionEstimator
from lsd.stages.sources.shot import Pixels

Array: TypeAlias = NDArray[Any]

_LONG, _EVERY, _EVERY_LONG = 2_000, 5, 10
_SHARE, _SLACK = 0.01, 0.5  # of motion, and pixels: how far forth and back may differ


def measure(
    video: str, reference: str | None, tell: Callable[[str], None] = lambda text: None
) -> tuple[Record, dict[str, str]]:
    """Measure a recording.

    With a reference there are all series but the laps'; it stands for the
    teacher, S. Without, there are those of the recording alone: "shift_l",
    "shift_a" and "shift_b" are then counted from its first picture, and only
    how they change means anything; motion is that of the recording itself.

    Args:
        video: a file, or a folder of pictures.
        reference: the same, a picture for each of the recording's; None: none.
        tell: is given a line on how it goes, every frame.

    Returns:
        The record, of a run of kind "recorded", and what was found: name -> value.

    Raises:
        ConfigError: a file cannot be read to its end, is too short or too
            small, or the two do not fit together.
    """
    with ExitStack() as stack:
        film = stack.enter_context(closing(Film("--video", video)))
        other = None
        if reference is not None:
            other = stack.enter_context(closing(Film("--reference", reference)))
            film.check_fits(other)
        probe = _Probe(film.size, _EVERY_LONG if (film.expected or 0) > _LONG else _EVERY)
        started_s = time.monotonic()
        while (y := film.read()) is not None:
            s = None if other is None else other.read()
            if other is not None and s is None:
                raise _unequal(other, probe.frames, film)
            probe.see(y, s)
            tell(_so_far(probe.frames, film.expected, time.monotonic() - started_s))
        if other is not None and other.read() is not None:
            raise _unequal(film, probe.frames, other)
    if probe.frames < MIN_FRAMES:
        raise ConfigError(
            f"{film.label}: has {plural(probe.frames, 'picture')}, expected {MIN_FRAMES} or more "
            "(drift takes time: 1,000 say more); record a longer stream"
        )
    facts = {
        "recording": f"{video}, {plural(probe.frames, 'picture')} of {film.about}",
        "reference": "none: it is held to its own beginning, and a scene that changes is drift, too"
        if reference is None
        else f"{reference}, taken as what every picture should look like (S)",
    }
    return probe.record(), facts


class _Probe:
    """Measures picture by picture.

    Args:
        size: of the pictures.
        every: one in so many is measured in full.
    """

    def __init__(self, size: Size, every: int) -> None:
        self.frames = 0
        self._every = every
        self._rows: list[dict[str, float]] = []
        self._sheets: dict[int, Pixels] = {}
        self._forth, self._back = MotionEstimator(size), MotionEstimator(size)
        self._before: tuple[Pixels, Array, Array | None] | None = None
        self._origin: Array | None = None

    def see(self, pixels: Pixels, meant: Pixels | None) -> None:
        """Measure the next picture beside the reference's, if there is one: uint8 [H, W, 3]."""
        n = self.frames
        followed = pixels if meant is None else meant
        y = pixels.astype(np.float32) / 255
        s = None if meant is None else meant.astype(np.float32) / 255
        flow = self._forth.step(followed, reset=False)
        figures = dict(zip("rgb", cv2.mean(y), strict=False))
        figures["cut"] = float(n > 0 and flow is None)
        is_due = n % self._every == 0
        if is_due:
            figures |= metrics.figures(y, s)
            if s is None:
                figures |= self._shift(y)
        if self._before is not None:
            followed_before, y_before, s_before = self._before
            figures["motion_y"] = _distance(y, y_before)
            if s is not None and s_before is not None:
                figures["motion_s"] = _distance(s, s_before)
            if is_due and flow is not None:
                visible = self._visible(flow, followed, followed_before)
                figures["e4_y"] = metrics.warp_error(y, y_before, flow, visible)
                if s is not None and s_before is not None:
                    figures["e4_s"] = metrics.warp_error(s, s_before, flow, visible)
        if n + 1 in SHEETS:
            self._sheets[n + 1] = pixels if meant is None else np.concatenate([meant, pixels], 1)
        self._before = followed, y, s
        self._rows.append(figures)
        self.frames += 1

    def record(self) -> Record:
        """Return what was measured."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        series = {name: np.array([row.get(name, np.nan) for row in self._rows]) for name in names}
        for name in ("switch", "reset"):
            series[name] = np.zeros(self.frames)
        run = Run("recorded", 1, "video", 0, self.frames, "recorded")
        counts = {"frames": self.frames, "cuts": int(series["cut"].sum())}
        return Record(run, series, sheets=self._sheets, counts=counts)

    def _shift(self, y: Array) -> dict[str, float]:
        """Return how far the mean colour is from that of the first picture, in Oklab."""
        now = np.array(cv2.mean(metrics.oklab(y))[:3])
        if self._origin is None:
            self._origin = now
        shift = now - self._origin
        return {f"shift_{axis}": float(d) for axis, d in zip("lab", shift, strict=True)}

    def _visible(self, flow: Array, now: Pixels, before: Pixels) -> NDArray[np.bool_]:
        """Return where the motion there and back meets itself: bool [H, W].

        Source: Sundaram et al. 2010, "Dense Point Trajectories", eq. 5, with
        lengths for their squares.
        """
        self._back.step(now, reset=True)
        back = self._back.step(before, reset=False)
        if back is None:
            return np.zeros(flow.shape[:2], np.bool_)
        y, x = np.indices(flow.shape[:2], np.float32)
        where = x + flow[..., 0], y + flow[..., 1]
        there = cv2.remap(back, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        lengths = np.linalg.norm(flow, axis=2) + np.linalg.norm(there, axis=2)
        apart = np.linalg.norm(flow + there, axis=2)
        return np.asarray(apart <= _SHARE * lengths + _SLACK)


def _unequal(shorter: Film, pictures: int, longer: Film) -> ConfigError:
    return ConfigError(
        f"{shorter.label}: ends after {plural(pictures, 'picture')}, but {longer.label} goes on; "
        "expected one for each; cut the longer one"
    )


def _so_far(done: int, expected: int | None, took_s: float) -> str:
    if not expected:
        return plural(done, "picture")
    left_s = took_s / done * max(0, expected - done)
    return f"{done:,} of {expected:,} pictures, about {duration(left_s)} left"


def _distance(a: Array, b: Array) -> float:
    """Return the mean absolute difference."""
    return float(cv2.norm(a, b, cv2.NORM_L1)) / a.size
