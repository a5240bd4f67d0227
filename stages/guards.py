"""Guards: which pictures never reach the screen, nor the history."""

from __future__ import annotations

from lsd.kernels import ops
from lsd.pipeline.frame import Picture

FLAT_STD = 0.02  # a styled picture's std is 0.3 to 0.8; below this it is one colour
JUMP = 0.35  # largest change of the mean, of a range of 2, that still input explains
_STILL_CHANGE = 0.02  # mean change of the input, of a range of 1, below which it counts as still


def verdict(
    picture: Picture,
    source: Picture,
    previous: Picture | None,
    source_change: float | None,
) -> str | None:
    """Say why a picture must not be shown, or None when it may.

    Args:
        picture: float32 [1, 3, H, W], what the network made.
        source: uint8 [1, H, W, 3], the input picture.
        previous: float32 [1, 3, H, W], the last output, or None.
        source_change: mean absolute change of the input since the last frame, 0
            to 1; None across a cut, where any jump is right.

    Returns:
        "not finite", "collapsed" (one colour although the input has content),
        "jumped" (far from the last output although the input hardly changed),
        or None.
    """
    stats = ops.frame_stats(picture)
    if stats.bad:
        return "not finite"
    if stats.std < FLAT_STD and _std(source) > 4 * FLAT_STD:
        return "collapsed"
    is_still = source_change is not None and source_change < _STILL_CHANGE
    if previous is not None and is_still and abs(stats.mean - _mean(previous)) > JUMP:
        return "jumped"
    return None


def _mean(picture: Picture) -> float:
    # for a jump this large every fourth pixel says enough, at a sixteenth of the cost
    return float(picture[..., ::4, ::4].mean())


def _std(source: Picture) -> float:
    return float(source[:, ::4, ::4].float().std()) / 127.5
