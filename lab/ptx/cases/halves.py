"""How coarse float16 is."""

from __future__ import annotations

import math


def half_unit(largest: float) -> float:
    """Return the distance of float16's neighbours at a size: one unit in the last place.

    Args:
        largest: magnitude of the largest value of a buffer, finite.
    """
    exponent = math.frexp(largest)[1] - 1 if largest else -14
    return math.ldexp(1.0, max(exponent, -14) - 10)
