"""Measures one stream: what is measured on every frame, and what on every n-th.

The stages take most of the time, and are to: the lab's own work is spread so
that it stays a small part of a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.kernels.ops import tensor_to_frame
from lsd.lab.drift import anew, metrics
from lsd.lab.drift.inputs import LAP
from lsd.lab.drift.record import STRIDE, Record, Run
from lsd.lab.drift.stream import Companion, Shown, Stream
from lsd.stages.models.styles import by_name

Array: TypeAlias = NDArray[Any]

SHEETS = (1, 100, 1_000, 10_000)  # frames that are kept to be looked at, counted from 1
_FLOWING = ("loop", "static", "pan", "aperiodic")  # their motion is followed on every frame
_EVENT_FRAMES = 30  # after a cut or switch in which every frame is compared with the teacher
_NEAR = 2  # frames behind a cut or switch in which a reset counts as its consequence
_EVERY = 5  # frames between two that are measured, in a short stream; divides a lap
_RARE = STRIDE // _EVERY  # what costs most is measured on every 5th of those
_ROUNDING = 1e-4  # a fortieth of a grey level
_LONG = 2_000  # frames above which a stream is measured half as often


def measure(stream: Stream, run: Run, tell: Callable[[], None] = lambda: None) -> Record:
    """Run a stream to its end and measure it.

    Args:
        stream: open, at its beginning.
        run: what it is.
        tell: called after every frame.

    Raises:
        StageError: a stage failed.
    """
    probe = _Walk(run) if run.kind == "walk" else _Full(run, stream)
    events = _Events()
    series: dict[str, Array] = {name: np.zeros(run.frames) for name in ("cut", "switch", "reset")}
    for n in range(run.frames):
        shown = stream.step()
        events.see(shown)
        figures = probe.see(shown, events)
        figures |= {"cut": shown.is_cut, "switch": shown.is_switch, "reset": shown.is_reset}
        for name, value in figures.items():
            if name not in series:
                series[name] = np.full(run.frames, np.nan)
            series[name][n] = value
        tell()
    counts = {"frames": run.frames, **events.counts, **stream.rejections()}
    return Record(run, series, sheets=probe.sheets, counts=counts)


class _Events:
    """Cuts and switches, and what was reset near them and elsewhere."""

    def __init__(self) -> None:
        self.counts = {"resets": 0, "resets near cuts": 0}
        self._last: int | None = None

    def see(self, shown: Shown) -> None:
        if shown.is_cut or shown.is_switch:
            self._last = shown.n
        if shown.is_reset:
            self.counts["resets near cuts" if self.since(shown.n) <= _NEAR else "resets"] += 1

    def since(self, n: int) -> float:
        """How many frames ago the last cut or switch was; infinite where there was none."""
        return np.inf if self._last is None else n - self._last


class _Walk:
    """The channels' means, and how like lap 3 a lap is."""

    def __init__(self, run: Run) -> None:
        self.sheets: dict[int, NDArray[np.uint8]] = {}
        self._is_loop = run.input == "loop"
        self.every = _EVERY if run.frames <= _LONG else 2 * _EVERY
        self._third: dict[int, tuple[Array, Array]] = {}

    def see(self, shown: Shown, events: _Events) -> dict[str, float]:
        figures = dict(zip("rgb", cv2.mean(shown.y), strict=False))
        lap, place = divmod(shown.n, LAP)
        if not self._is_loop or lap < 2:
            return figures
        shot = tensor_to_frame(shown.frame.data)[0].numpy()
        blocks = metrics.block_means(shown.y, 8)
        if lap == 2:
            self._third[place] = shot.copy(), blocks
            return figures
        third, third_blocks = self._third[place]
        figures["lap_psnr"] = metrics.lap_psnr(shot, third)
        figures["lap_psnr_blocks"] = metrics.lap_psnr(_grey(blocks), _grey(third_blocks))
        if place % (_RARE * self.every) == 0:
            before = third.astype(np.float32) / 255
            figures["lap_spectrum"] = metrics.spectrum_distance(shown.y, before)
        return figures


class _Full(_Walk):
    """Everything."""

    def __init__(self, run: Run, stream: Stream) -> None:
        super().__init__(run)
        self._input = stream.input
        style = by_name(run.style)
        self._is_flowing = run.input in _FLOWING
        self._is_predicted = self._is_flowing and not (style.textured or style.stateful)
        self._anew = anew.Anew(stream, run, self.every) if anew.is_on(run) else None
        self._teacher = _Teacher(run, stream, self.every)
        self._before: tuple[Array, Array | None] | None = None

    def see(self, shown: Shown, events: _Events) -> dict[str, float]:
        figures = super().see(shown, events)
        n, y = shown.n, shown.y
        is_due, is_event = n % self.every == 0, events.since(n) < _EVENT_FRAMES
        is_wanted = is_due or (n + 1) % self.every == 0 or n + 1 in SHEETS or is_event
        s = self._teacher.picture(shown, is_wanted or self._is_flowing)
        if self._before is not None:
            figures |= self._changes(shown, s, *self._before, is_due)
        if s is not None:
            figures |= self._likeness(shown, s, is_due)
            if is_event:
                figures["psnr_ys"] = metrics.psnr(y, s)
        if self._is_predicted and n % (_RARE * self.every) == 0:
            figures["psnr_free"] = metrics.psnr(y, self._teacher.free(shown))
        if self._anew is not None and s is not None:
            early = self._anew.see(shown, s)
            figures |= metrics.early(*early) if early is not None else {}
        self._before = y, s
        return figures

    def _changes(
        self, shown: Shown, s: Array | None, y_before: Array, s_before: Array | None, is_due: bool
    ) -> dict[str, float]:
        """Compare the frame with the one before."""
        y, figures = shown.y, {"motion_y": _distance(shown.y, y_before)}
        if s is not None and s_before is not None:
            figures["motion_s"] = _distance(s, s_before)
            motion = self._input.motion(shown.n) if is_due else None
            if motion is not None:
                figures |= metrics.temporal(y, y_before, s, s_before, *motion)
        if self._is_flowing:
            figures["motion_s"] = self._teacher.motion(shown.n, figures.get("motion_s"))
        return figures

    def _likeness(self, shown: Shown, s: Array, is_due: bool) -> dict[str, float]:
        """Compare the frame with the teacher's picture and the input."""
        is_kept = shown.n + 1 in SHEETS
        if not (is_due or is_kept):
            return {}
        x = shown.pixels.astype(np.float32) / 255
        if is_kept:
            self.sheets[shown.n + 1] = sheet(x, s, shown.y)
        return metrics.figures(shown.y, s, x) if is_due else {}


class _Teacher:
    """The teacher's pictures; where the input repeats, those of one lap again and again.

    From lap 2 on they repeat: by then every layer of the texture has
    been renewed once. That is checked when lap 3 begins, and no longer so when
    the stream is cut off from its past, which puts the texture elsewhere.
    """

    def __init__(self, run: Run, stream: Stream, every: int) -> None:
        self._companion = Companion(run.seed, stream.size)
        self._stream, self._every = stream, every
        self._may_repeat = stream.input.period is not None and run.input != "switches"
        self._repeats = False
        self._lap: dict[int, Array] = {}
        self._free: dict[int, Array] = {}
        self._motion: dict[int, float] = {}

    def picture(self, shown: Shown, is_wanted: bool) -> Array | None:
        """Return the picture beside `shown`, float32 [H, W, 3]; None where there is none.

        Args:
            shown: the frames in order, each once.
            is_wanted: of those that are wanted there is one, but that once the
                pictures repeat only every n-th, and the one before it, are kept.
        """
        lap, place = divmod(shown.n, LAP)
        if shown.n > 0 and shown.frame.motion is None:
            self._may_repeat = self._repeats = False
        if self._repeats:
            return self._lap.get(place)
        self._companion.follow(shown.frame, shown.style)
        if not (is_wanted or by_name(shown.style).stateful):
            return None
        s = self._companion.picture(shown)
        if self._may_repeat and lap == 1 and (place % self._every == 0 or self._precedes(place)):
            self._lap[place] = s
        elif self._may_repeat and lap == 2:
            # the last digits depend on where in memory a picture lies
            self._repeats = self._may_repeat = np.allclose(s, self._lap[place], atol=_ROUNDING)
        return s

    def motion(self, n: int, measured: float | None) -> float:
        """Return the mean change of the teacher's picture, that of a lap ago where it repeats."""
        if measured is not None:
            self._motion[n % LAP] = measured
        return self._motion[n % LAP]

    def free(self, shown: Shown) -> Array:
        """Return the prediction without history, float32 [H, W, 3]."""
        place = shown.n % LAP
        if not self._repeats or place not in self._free:
            self._free[place] = self._stream.free(shown, self._companion.planes())
        return self._free[place]

    def _precedes(self, place: int) -> bool:
        return (place + 1) % self._every == 0


def sheet(x: Array, s: Array, y: Array) -> NDArray[np.uint8]:
    """Lay input, teacher and output side by side: uint8 [H, 3 W, 3]."""
    return np.round(255 * np.concatenate([x, s, y], axis=1).clip(0, 1)).astype(np.uint8)


def _distance(a: Array, b: Array) -> float:
    """Return the mean absolute difference."""
    return float(cv2.norm(a, b, cv2.NORM_L1)) / a.size


def _grey(blocks: Array) -> NDArray[np.uint8]:
    return np.round(255 * blocks.clip(0, 1)).astype(np.uint8)
