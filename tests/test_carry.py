"""The last output, carried on by its motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import PERIOD_NS, context, tensor_frame

from lsd.stages.carry import MOST_SPANS, Carry

COLUMNS = np.arange(64, dtype=np.uint8)
PICTURE = np.ascontiguousarray(np.broadcast_to(COLUMNS[None, :, None], (64, 64, 3)))


def carried(motion_px: float | None = 2.0, last_period: int = 1) -> Carry:
    """Return one that has seen two pictures, in which things go `motion_px` to the left."""
    frame = tensor_frame(0, context())
    motion = None
    if motion_px is not None:
        motion = torch.zeros(1, 64, 64, 2)
        motion[..., 0] = motion_px
    carry = Carry()
    carry.keep(np.zeros_like(PICTURE), replace(frame, pts_ns=0))
    carry.keep(PICTURE, replace(frame, pts_ns=last_period * PERIOD_NS, motion=motion))
    return carry


def left_column(carry: Carry, period: float) -> int:
    """Return which column of the picture lies at the left edge then."""
    pixels = carry.at(round(period * PERIOD_NS))
    assert pixels is not None
    assert pixels.dtype == np.uint8
    assert pixels.shape == PICTURE.shape
    return int(pixels[32, 0, 0])


@pytest.mark.parametrize(("period", "column"), [(1.5, 1), (2, 2), (3, 4), (4, 6)])
def test_picture_goes_on_as_far_as_time_has(period: float, column: int) -> None:
    assert left_column(carried(), period) == column


def test_motion_over_a_longer_span_is_slower() -> None:
    assert left_column(carried(6.0, last_period=3), period=4) == 2


def test_picture_stops_where_nothing_was_measured() -> None:
    carry = carried()
    assert left_column(carry, 1 + MOST_SPANS) == left_column(carry, 100) == 2 * MOST_SPANS


def test_every_step_starts_at_the_picture_itself() -> None:
    carry = carried()
    assert [left_column(carry, period) for period in (2, 3, 2)] == [2, 4, 2]


def test_nothing_is_known_at_first_after_a_cut_and_of_the_past() -> None:
    assert Carry().at(PERIOD_NS) is None
    assert carried(None).at(2 * PERIOD_NS) is None
    assert carried().at(PERIOD_NS) is None


def test_first_picture_has_no_span_that_its_motion_could_have_taken() -> None:
    carry = Carry()
    motion = torch.ones(1, 64, 64, 2)
    carry.keep(PICTURE, replace(tensor_frame(0, context()), pts_ns=PERIOD_NS, motion=motion))
    assert carry.at(2 * PERIOD_NS) is None
