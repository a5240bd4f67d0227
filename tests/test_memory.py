"""The memory stage: broken pictures out, good ones untouched."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from model_frames import context, flow, frame, params, scene, smooth
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import Frame, FrameFlag
from lsd.pipeline.params import Params
from lsd.stages.memory import Memory

STILL = flow(0.0, 0.0)


class Rig:
    """A memory stage and its counters."""

    def __init__(self, snapshot: Params | None = None) -> None:
        self.snapshot = snapshot or params()
        self.stage = Memory("memory")
        given = context(self.snapshot)
        self.counters: Counter[tuple[str, str]] = given.counters
        self.stage.open(given)

    def step(self, data: Tensor, *, previous: Frame | None = None, **changed: Any) -> Frame:
        """Take one picture of the still scene; `changed` as for `frame`."""
        given = {"motion": STILL, **changed}
        return self.stage.process(frame(self.snapshot, data=data, **given), previous=previous)

    def past(self, data: Tensor) -> Frame:
        return frame(self.snapshot, data=data)


def broken(value: float = math.nan) -> Tensor:
    picture = smooth(0)
    picture[0, 0, 10, 10] = value
    return picture


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, 1e30])
def test_picture_that_is_not_finite_is_replaced_by_the_last_good_one(value: float) -> None:
    rig = Rig()
    good = smooth(3)
    done = rig.step(broken(value), previous=rig.past(good))
    assert torch.equal(done.data, good)
    assert done.flags & FrameFlag.REPLACED
    assert rig.counters == {("memory", "rejected: not finite"): 1}


def test_without_a_last_picture_the_input_stands_in() -> None:
    rig = Rig()
    done = rig.step(broken(), source=scene(2), motion=None)
    assert torch.equal(ops.tensor_to_frame(done.data), scene(2))
    assert done.flags & FrameFlag.REPLACED


def test_replacement_keeps_the_frames_number_and_other_flags() -> None:
    rig = Rig()
    done = rig.step(broken(), seq=7, flags=FrameFlag.DISCONTINUITY, motion=None)
    assert done.seq == 7
    assert done.flags == FrameFlag.DISCONTINUITY | FrameFlag.REPLACED


def test_collapsed_picture_is_replaced() -> None:
    rig = Rig()
    done = rig.step(torch.full((1, 3, 64, 64), 0.4), previous=rig.past(smooth(3)))
    assert torch.equal(done.data, smooth(3))
    assert rig.counters == {("memory", "rejected: collapsed"): 1}


def test_jump_over_a_still_input_is_replaced() -> None:
    rig = Rig()
    done = rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0)))
    assert torch.equal(done.data, smooth(0))
    assert rig.counters == {("memory", "rejected: jumped"): 1}


def test_jump_at_a_cut_is_right() -> None:
    rig = Rig()
    done = rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0)), motion=None)
    assert not done.flags & FrameFlag.REPLACED


def test_jump_of_the_input_explains_a_jump() -> None:
    rig = Rig()
    lit = (scene(0).float() * 0.5).to(torch.uint8)
    done = rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0)), source=lit)
    assert not done.flags & FrameFlag.REPLACED


def test_jump_at_a_switch_of_style_is_right() -> None:
    rig = Rig()
    past = frame(params(diffusion={"prompt": "gold"}), data=smooth(0))
    done = rig.step(smooth(0) + 0.6, previous=past)
    assert not done.flags & FrameFlag.REPLACED


def test_guards_can_be_switched_off_live() -> None:
    rig = Rig()
    rig.snapshot = params(memory={"guards": False})
    done = rig.step(torch.full((1, 3, 64, 64), 0.4), previous=rig.past(smooth(3)))
    assert not done.flags & FrameFlag.REPLACED
    assert not rig.counters


def test_bypassed_frame_goes_through_untouched() -> None:
    rig = Rig()
    done = rig.step(broken(), flags=FrameFlag.PASSTHROUGH)
    assert done.flags == FrameFlag.PASSTHROUGH
    assert done.data.isnan().any()
    assert not rig.counters


def test_good_picture_comes_out_as_it_came() -> None:
    rig = Rig()
    given = smooth(0) + 0.2
    done = rig.step(given, previous=rig.past(smooth(0)))
    assert done.data is given
    assert torch.equal(given, smooth(0) + 0.2)
    assert not done.flags


def test_reset_takes_the_picture_for_settled() -> None:
    rig = Rig()
    rig.step(smooth(0), previous=frame(params(), data=smooth(0)))  # another snapshot
    rig.stage.reset()
    done = rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0)))
    assert done.flags == FrameFlag.REPLACED


def test_jump_after_a_switch_of_style_has_settled_is_replaced() -> None:
    rig = Rig()
    rig.step(smooth(0), previous=frame(params(), data=smooth(0)))  # another snapshot
    for _ in range(14):
        assert not rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0))).flags
    done = rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0)))
    assert done.flags == FrameFlag.REPLACED
