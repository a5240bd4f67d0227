"""The recall stage: a scene keeps the exposure and white balance it was first seen with.

Runs before the diffusion, since a style is not linear: poster's steps or solar's
bands, once they have moved, cannot be put back by a shift of colours afterwards
(measured with the teachers under +-20% and a cast: at most 1 to 5 dB come back
in 8x8 cells of the output, 15 dB and more by taking the gain out of the input).

The bank remembers input pictures only, so nothing the recurrence does can teach
it. What is taken out is a high-pass of the camera's gain: in `settle_s` seconds
any reference becomes what the camera shows, so that no error of it can grow.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from lsd.pipeline.frame import PIXELS, Flow, Frame, FrameSpec, Picture
from lsd.pipeline.params import StageOptions, live_field, restart_field
from lsd.pipeline.stage import Context
from lsd.stages.models.bank import MemoryBank

Array = npt.NDArray[Any]

_CELLS = 32  # a side; each cell holds the mean of its part of the picture
_KEY = 16  # a side of the thumbnail by which a view is recalled
_DARK, _BRIGHT = math.log(10 / 255), math.log(245 / 255)  # beyond, a gain does not show
_ENOUGH = 0.12  # share of cells between the two from which a gain is believed
_SAME = 0.12  # log difference up to which a cell, the gain taken out, is the one remembered
_SHARE = 0.6  # of the cells that must be the same; people may walk through the others
# A camera's exposure hunts slowly: 20% once a second is 0.05 a frame at 25 a
# second. More than this in one frame is the light itself: a lamp, a flash.
_SWITCH = 0.1
_EVERY = 5  # frames between two entries while the view changes
_VISIBLE = 0.004  # a gain below 1/255 changes no pixel


class RecallOptions(StageOptions):
    """Options of the recall stage."""

    kind: Literal["recall"] = "recall"
    hold: float = live_field(
        1.0, "How much of the camera's hunting for exposure and white balance is taken out; "
        "0 is off", ge=0, le=1,
    )  # fmt: skip
    limit: float = live_field(
        1.6, "Largest factor that is taken out; what is beyond it shows", ge=1, le=4
    )
    settle_s: float = live_field(
        10.0, "Seconds in which a light that stays changed is accepted", gt=0, le=3600
    )
    capacity: int = restart_field(64, "Views that are remembered", ge=1, le=4096)


class Recall:
    """Take the camera's gain out of a frame, as measured against the remembered scene."""

    Options: ClassVar[type[StageOptions]] = RecallOptions
    accepts: ClassVar[FrameSpec] = PIXELS
    returns: ClassVar[FrameSpec] = PIXELS

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, context: Context) -> None:
        """Allocate the bank."""
        options = context.params.of(self.name, RecallOptions)
        self._rate_hz = context.rate_hz
        sizes = 3 * _KEY * _KEY, 3 * _CELLS * _CELLS
        self._bank = MemoryBank(options.capacity, *sizes, temperature=0.005)
        self.reset()

    def process(self, frame: Frame, **delayed: Frame | None) -> Frame:
        """Return `frame` with data and source as the scene was exposed before.

        Args:
            frame: data uint8 [1, H, W, 3]; `motion` is None at a cut.
        """
        options = frame.params.of(self.name, RecallOptions)
        if options.hold == 0.0:
            return frame
        self._measure(_log_cells(frame.source), frame.motion)
        change = self._gain - self._accepted
        bound = math.log(options.limit)
        self._accepted += change - np.clip(change, -bound, bound)
        change = options.hold * (self._gain - self._accepted)
        self._accepted += (self._gain - self._accepted) * min(
            1.0, 1.0 / (options.settle_s * self._rate_hz)
        )
        if np.abs(change).max() < _VISIBLE:
            return frame
        steady = _scaled(frame.source, np.exp(-change))
        return replace(frame, data=steady, source=steady)

    def close(self) -> None:
        """Nothing to release."""

    def reset(self) -> None:
        """Forget every scene; the next picture is taken as it is."""
        self._bank.reset()
        self._since_learned = _EVERY
        # the view being followed, log cells at gain 1, and where the camera has
        # moved from it since: a cell now -> a cell then
        self._view: Array | None = None
        self._where = np.eye(3)
        # log of the camera's gain against the remembered scene, and how much
        # of it counts as the light's own
        self._gain = np.zeros(3, np.float32)
        self._accepted = np.zeros(3, np.float32)

    def _measure(self, cells: Array, motion: Flow | None) -> None:
        """Update the gain: against the view being followed, one recalled, or a new one."""
        self._since_learned += 1
        if motion is not None and self._view is not None:
            self._where = self._where @ _camera(motion)
            found = _compare(cells, _moved(self._view, self._where))
            if found is not None:
                self._set_gain(found)
                return
        self._where = np.eye(3)
        recalled = self._bank.recall(_key(cells))
        self._view = None if recalled is None else recalled[0].numpy().reshape(cells.shape)
        found = None if self._view is None else _compare(cells, self._view)
        if motion is None:
            self._gain = self._accepted.copy() if found is None else found
        elif found is not None:
            self._set_gain(found)
        if found is None:
            self._view = cells - self._gain
            if motion is None or self._since_learned >= _EVERY:
                self._bank.learn(_key(cells), torch.from_numpy(self._view.ravel()))
                self._since_learned = 0

    def _set_gain(self, found: Array) -> None:
        jump = found - self._gain
        if np.abs(jump).max() > _SWITCH:
            self._accepted += jump
        self._gain = found


def _log_cells(source: Picture) -> Array:
    """Return the log of the cells' means, float32 [_CELLS, _CELLS, 3], at least log(1/255)."""
    side = (_CELLS, _CELLS)
    cells = cv2.resize(source[0].numpy(), side, interpolation=cv2.INTER_AREA)
    logs: Array = np.log(np.maximum(cells, 1).astype(np.float32) / np.float32(255.0))
    return logs


def _key(cells: Array) -> torch.Tensor:
    """Describe a view whatever its exposure: log cells about their median."""
    about = np.clip(cells - np.median(cells, axis=(0, 1)), -2.0, 2.0)
    return torch.from_numpy(cv2.resize(about, (_KEY, _KEY), interpolation=cv2.INTER_AREA).ravel())


def _camera(motion: Flow) -> Array:
    """Fit how the camera moved: where a cell was before, affine float64 [3, 3].

    Least squares over the flow, then again without the half that fits worst:
    what moves by itself is no part of it.
    """
    rows, columns = motion.shape[1:3]
    flow = motion[0, rows // 32 :: rows // 16, columns // 32 :: columns // 16].numpy()
    y, x = np.indices(flow.shape[:2]).reshape(2, -1)
    # in cells, the middle of the first at (0, 0)
    x, y = (x + 0.5) * _CELLS / flow.shape[1] - 0.5, (y + 0.5) * _CELLS / flow.shape[0] - 0.5
    at = np.stack([x, y, np.ones_like(x)], axis=1)
    moved = flow.reshape(-1, 2).astype(np.float64) * (_CELLS / columns, _CELLS / rows)
    kept = np.ones(len(at), bool)
    for _ in range(2):
        fit = np.linalg.lstsq(at[kept], moved[kept], rcond=None)[0]
        error = np.abs(moved - at @ fit).sum(1)
        kept = error <= np.median(error)
    camera = np.eye(3)
    camera[:2] += fit.T
    return camera


def _moved(view: Array, where: Array) -> Array:
    """Show a remembered view as the camera sees it now; NaN where it has not looked."""
    nowhere: Any = (math.nan,) * 3
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (_CELLS, _CELLS)
    moved = cv2.warpAffine(
        view, where[:2], size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=nowhere
    )
    return np.asarray(moved)


def _compare(cells: Array, then: Array) -> Array | None:
    """Return the log gain a channel, float32 [3]; None where it is not the same view."""
    with np.errstate(invalid="ignore"):
        low, high = np.minimum(cells, then).min(2), np.maximum(cells, then).max(2)
        usable = (low > _DARK) & (high < _BRIGHT)
    if usable.mean() < _ENOUGH:
        return None
    ratio = (cells - then)[usable]
    gain: Array = np.median(ratio, axis=0)
    same = np.abs(ratio - gain).max(1) < _SAME
    return gain if same.mean() >= _SHARE else None


def _scaled(source: Picture, factors: Array) -> Picture:
    """Multiply each channel; uint8 [1, H, W, 3], rounded and clipped."""
    levels = np.arange(256, dtype=np.float32)[:, None] * factors
    table = np.clip(np.round(levels), 0, 255).astype(np.uint8)[None]
    return torch.from_numpy(np.asarray(cv2.LUT(source[0].numpy(), table)))[None]
