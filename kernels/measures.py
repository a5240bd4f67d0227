"""What is measured of a picture, as plain torch; `kernels.reference` hands it on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class FrameStats(NamedTuple):
    """What the guards look at.

    Attributes:
        mean: mean over all values, in [-1, 1]; NaN when any value is bad.
        std: standard deviation over all values; NaN when any value is bad.
        bad: how many values are NaN, infinite, or so large that moments overflow.
    """

    mean: float
    std: float
    bad: int


# the squares of 1024x1024x3 values below this add up to a finite float32
_HUGE = 1e15


def frame_stats(x: Tensor) -> FrameStats:
    """Measure a picture for the guards.

    Args:
        x: float32 [1, 3, H, W].
    """
    flat = x.flatten()
    mean = flat.mean()
    # E[x^2] - E[x]^2 would save a third of the time, but gives a picture of one
    # colour a deviation of up to 0.03 at 1024x1024
    centred = flat - mean
    variance = float(torch.dot(centred, centred)) / x.numel()
    if not (math.isfinite(variance) and abs(float(mean)) < _HUGE):
        # one bad value spoils the sums: count only then
        bad = int(x.numel() - (flat.abs() < _HUGE).sum())
        return FrameStats(float("nan"), float("nan"), bad)
    return FrameStats(float(mean), math.sqrt(variance), 0)


class Guarded(NamedTuple):
    """What a guard made of a picture.

    Attributes:
        picture: float [1, 3, H, W], the one that may be shown.
        code: 0 fine, 1 not finite, 2 collapsed, 3 jumped; on a card the first of uint32 [4], there.
    """

    picture: Any
    code: Any


def guard(x: Tensor, good: Tensor, flat: float, jump: float, last: Tensor | None = None) -> Guarded:
    """Decide whether a picture may be shown, and put another in its place where it may not.

    Args:
        x: float32 [1, 3, H, W], what the network made.
        good: same shape, what stands in.
        flat: std below which `x` is one colour; 0: it may be.
        jump: how far its mean may be from `last`'s; inf: as far as it likes.
        last: same shape, the last output; None: nothing can have jumped.

    Returns:
        `x` itself or `good` itself, and why: the first of the reasons that holds.
    """
    stats = frame_stats(x)
    if stats.bad:
        return Guarded(good, 1)
    if stats.std < flat:
        return Guarded(good, 2)
    # of a last output with a NaN the mean is one, from which nothing is far
    if last is not None and jump < math.inf and abs(stats.mean - frame_stats(last).mean) > jump:
        return Guarded(good, 3)
    return Guarded(x, 0)


class PictureStats(NamedTuple):
    """All that the device's guards look at.

    Attributes:
        mean: mean over all values; NaN when any value is bad.
        std: standard deviation over all values; NaN when any value is bad.
        bad: how many values are NaN, infinite, or at least 1e15, where moments overflow.
        laplacian: mean square of ``left + right + above + below - 4 x``, over the values that have
            all four; what touches a bad value counts as 0. 0 where there is no such place.
        histogram: int64 [512], pixels by colour: bin ``64 r + 8 g + b``, each 0 to 7 for -1 to 1;
            without the pixels that have a bad value.
    """

    mean: float
    std: float
    bad: int
    laplacian: float
    histogram: Tensor


def picture_stats(x: Tensor) -> PictureStats:
    """Measure a picture for the device's guards.

    Args:
        x: float [1, 3, H, W]; the sums are float64.
    """
    values = x[0].to(torch.float32)
    is_good = values.abs() < _HUGE
    tame = torch.where(is_good, values, 0.0)
    bins = ((tame + 1.0) * 4.0).floor_().clamp_(0.0, 7.0).to(torch.int64)
    colours = (bins[0] * 64 + bins[1] * 8 + bins[2])[is_good.all(0)]
    bad = int(values.numel() - is_good.sum())
    exact = tame.to(torch.float64)
    mean, std = (math.nan, math.nan) if bad else (exact.mean(), exact.std(correction=0))
    laplace = _cross(exact) - 5.0 * exact[:, 1:-1, 1:-1]
    counted = laplace.square() * (_cross(is_good.to(torch.float64)) == 5.0)
    energy = float(counted.mean()) if counted.numel() else 0.0
    histogram = torch.bincount(colours, minlength=512)
    return PictureStats(float(mean), float(std), bad, energy, histogram)


def _cross(x: Tensor) -> Tensor:
    """Sum each value that has four neighbours with them, [C, H, W] to [C, H - 2, W - 2]."""
    across = x[:, 1:-1, :-2] + x[:, 1:-1, 1:-1] + x[:, 1:-1, 2:]
    return across + x[:, :-2, 1:-1] + x[:, 2:, 1:-1]
