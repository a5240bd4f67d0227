"""Guards: which pictures never reach the screen, nor the history."""

from __future__ import annotations

import math
from typing import NamedTuple

from lsd.pipeline.frame import Picture

FLAT_STD = 0.02  # a styled picture's std is 0.3 to 0.8; below this it is one colour
JUMP = 0.35  # largest change of the mean, of a range of 2, that still input explains
_STILL_CHANGE = 0.02  # mean change of the input, of a range of 1, below which it counts as still
REASONS = ("fine", "not finite", "collapsed", "jumped")  # by the code of `ops.guard`


class Limits(NamedTuple):
    """What `ops.guard` holds a picture to.

    Attributes:
        flat: std below which it is one colour; 0: it may be.
        jump: how far its mean may be from the last output's; inf: as far as it likes.
    """

    flat: float
    jump: float


ALL = Limits(FLAT_STD, JUMP)  # both are on


def limits(source: Picture, source_change: float | None) -> Limits:
    """Return the limits for a picture, from what it was made of.

    Args:
        source: uint8 [1, H, W, 3], the input picture, on the host.
        source_change: mean absolute change of the input since the last frame, 0
            to 1; None across a cut, where any jump is right.
    """
    has_content = float(source[:, ::4, ::4].float().std()) / 127.5 > 4 * FLAT_STD
    is_still = source_change is not None and source_change < _STILL_CHANGE
    return Limits(FLAT_STD if has_content else 0.0, JUMP if is_still else math.inf)
