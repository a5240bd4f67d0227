"""How something grows over time, whatever single samples say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BLOCKS = 20
LEAST_BLOCKS = 8
_Z = 1.96  # 95 %


class Trend(NamedTuple):
    """A slope an hour, and between which two values it lies with 95 % confidence."""

    slope: float
    low: float
    high: float


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend | None:
    """Estimate a slope an hour; None: too few samples.

    The time is cut into 20 blocks, since what follows within seconds is not independent; of their
    medians, it takes the median of the slopes between all pairs (Theil and Sen), and Sen's
    interval, which asks for no distribution. Up to some 29 % of the blocks may be far off.

    Source: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968.
    """
    times, found = np.asarray(times_s, float), np.asarray(values, float)
    if len(times) < LEAST_BLOCKS:
        return None
    edges = np.linspace(times[0], times[-1], BLOCKS + 1)
    place = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, BLOCKS - 1)
    filled = np.unique(place)
    if len(filled) < LEAST_BLOCKS:
        return None
    x = np.array([np.median(times[place == block]) for block in filled])
    y = np.array([np.median(found[place == block]) for block in filled])
    return _theil_sen(x / 3600, y)


def _theil_sen(x: ArrayLike, y: ArrayLike) -> Trend:
    x, y = np.asarray(x), np.asarray(y)
    first, second = np.triu_indices(len(x), 1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    n, pairs = len(x), len(slopes)
    spread = _Z * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, int(np.floor((pairs - spread) / 2)))
    high = min(pairs - 1, int(np.ceil((pairs + spread) / 2)))
    return Trend(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))
