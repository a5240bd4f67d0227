"""The memory stage: broken pictures out, slow errors pulled back."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from model_frames import OwnDenoiser, context, flow, frame, params, scene, smooth
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.params import Params
from lsd.stages.anchor import Anchor, Reference
from lsd.stages.memory import Memory, MemoryOptions
from lsd.stages.models.bank import MemoryBank

STILL = flow(0.0, 0.0)


class Rig:
    """A memory stage whose anchors show `wanted`, and its counters."""

    def __init__(self, snapshot: Params | None = None, wanted: Tensor | None = None) -> None:
        self.snapshot = snapshot or params()
        self.wanted = smooth(0) if wanted is None else wanted
        self.model = OwnDenoiser(lambda **given: self.wanted)
        self.stage = Memory("memory", Reference(self.model, Size(32, 32), "diffusion"))
        given = context(self.snapshot)
        self.counters: Counter[tuple[str, str]] = given.counters
        self.stage.open(given)

    def step(self, data: Tensor, *, previous: Frame | None = None, **changed: Any) -> Frame:
        """Take one picture of the still scene; `changed` as for `frame`."""
        given = {"motion": STILL, **changed}
        return self.stage.process(frame(self.snapshot, data=data, **given), previous=previous)

    def past(self, data: Tensor) -> Frame:
        return frame(self.snapshot, data=data)

    @property
    def learned(self) -> int:
        return len(self.model.calls)


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


def test_bank_is_not_fed_by_a_rejected_picture() -> None:
    rig = Rig()
    rig.step(broken())
    assert rig.learned == 0
    rig.step(smooth(0))
    assert rig.learned == 1


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
    rig.snapshot = params(memory={"guards": False, "rate": 0.0})
    done = rig.step(torch.full((1, 3, 64, 64), 0.4), previous=rig.past(smooth(3)))
    assert not done.flags & FrameFlag.REPLACED
    assert not rig.counters


@pytest.mark.parametrize("every", [1, 3, 25])
def test_bank_learns_the_first_frame_and_then_every_so_many(every: int) -> None:
    rig = Rig(params(memory={"learn_every": every}))
    learned_at = []
    for index in range(60):
        before = rig.learned
        rig.step(smooth(0))
        if rig.learned > before:
            learned_at.append(index)
    assert learned_at == list(range(0, 60, every))


def test_bank_keeps_as_many_entries_as_it_is_told() -> None:
    rig = Rig(params(memory={"learn_every": 1, "capacity": 4}))
    for _ in range(9):
        rig.step(smooth(0))
    assert len(rig.stage._bank) == 4


def cast_of(picture: Tensor, wanted: Tensor) -> float:
    """Measure how far the mean colour is from the wanted one."""
    return float((picture - wanted).mean((2, 3)).abs().max())


def test_colour_cast_is_pulled_toward_the_anchor_by_the_rate() -> None:
    rig = Rig(params(memory={"rate": 0.2}))
    cast = rig.wanted + torch.tensor([0.1, -0.1, 0.05])[None, :, None, None]
    done = rig.step(cast)
    assert cast_of(done.data, rig.wanted) == pytest.approx(0.8 * 0.1, abs=0.005)


def test_error_that_feeds_on_itself_dies_out() -> None:
    rig = Rig(params(memory={"rate": 0.1}))
    picture = rig.wanted + 0.2
    for _ in range(40):  # as if the network handed its past on unchanged
        picture = rig.step(picture).data
    # 0.9^40 = 0.015 of 0.2
    assert cast_of(picture, rig.wanted) < 0.01


def test_lost_contrast_is_pulled_toward_the_anchors() -> None:
    rig = Rig(params(memory={"rate": 0.1}))
    picture = 0.8 * rig.wanted
    for _ in range(60):
        picture = rig.step(picture).data
    assert picture.std() == pytest.approx(float(rig.wanted.std()), rel=0.03)


def test_picture_that_looks_right_is_hardly_touched() -> None:
    rig = Rig(params(memory={"rate": 1.0}))
    done = rig.step(rig.wanted)
    assert (done.data - rig.wanted).abs().max() < 1e-4


def test_correction_of_one_frame_is_limited() -> None:
    rig = Rig(params(memory={"rate": 1.0, "limit": 0.1}))
    done = rig.step(rig.wanted + 0.8, motion=None)
    assert (done.data - (rig.wanted + 0.8)).mean() == pytest.approx(-0.1, abs=0.01)


def test_rate_zero_changes_nothing_and_is_live() -> None:
    rig = Rig()
    rig.step(smooth(0))
    rig.snapshot = params(memory={"rate": 0.0})
    given = smooth(0) + 0.1
    assert torch.equal(rig.step(given).data, given)
    rig.snapshot = params(memory={"rate": 0.3})
    assert not torch.equal(rig.step(given).data, given)


def test_scene_unlike_any_in_the_bank_is_not_corrected() -> None:
    rig = Rig(params(memory={"learn_every": 1000}))
    rig.step(smooth(0))
    given = smooth(0) + 0.1
    elsewhere = 255 - scene(0)
    done = rig.step(given, source=elsewhere, motion=None)
    assert torch.allclose(done.data, given, atol=1e-6)
    assert not torch.allclose(rig.step(given).data, given, atol=1e-3)


def left_bright(right: bool) -> Tensor:
    """Draw a scene that is bright on one side; uint8."""
    picture = torch.full((1, 64, 64, 3), 20, dtype=torch.uint8)
    half = slice(32, None) if right else slice(None, 32)
    picture[:, :, half] = 230
    return picture


def test_correction_recalls_the_scene_that_the_input_shows() -> None:
    rig = Rig(params(memory={"learn_every": 1, "rate": 1.0}))
    wanted = {False: smooth(0), True: smooth(1)}
    for right, picture in wanted.items():
        rig.wanted = picture
        rig.step(picture, source=left_bright(right), motion=None)
    rig.snapshot = params(memory={"learn_every": 1000, "rate": 1.0})
    for right, picture in wanted.items():
        done = rig.step(picture + 0.1, source=left_bright(right), motion=None)
        assert cast_of(done.data, picture) < 0.01


def test_anchors_do_not_depend_on_the_last_output(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[Tensor] = []
    monkeypatch.setattr(MemoryBank, "learn", lambda bank, key, value: learned.append(value))
    rig = Rig()
    for seed in (1, 2):
        rig.stage.reset()
        rig.step(smooth(seed), previous=rig.past(smooth(seed + 5)))
    assert torch.equal(*learned)
    assert torch.equal(learned[0], Anchor.of(rig.wanted).flatten())


def test_new_style_forgets_what_the_old_one_looked_like() -> None:
    rig = Rig(params(memory={"learn_every": 1000, "rate": 1.0}))
    rig.step(smooth(0))
    rig.snapshot = params(diffusion={"prompt": "gold"}, memory={"learn_every": 1000, "rate": 1.0})
    rig.wanted = smooth(1)
    done = rig.step(smooth(1) + 0.1)
    assert rig.learned == 2  # at once, not after 1000 frames
    assert cast_of(done.data, smooth(1)) < 0.01


def test_reset_forgets_and_learns_anew() -> None:
    rig = Rig(params(memory={"learn_every": 1000}))
    for _ in range(3):
        rig.step(smooth(0))
    rig.stage.reset()
    rig.step(smooth(0))
    assert rig.learned == 2


def test_bypassed_frame_goes_through_untouched_and_teaches_nothing() -> None:
    rig = Rig()
    done = rig.step(broken(), flags=FrameFlag.PASSTHROUGH)
    assert done.flags == FrameFlag.PASSTHROUGH
    assert done.data.isnan().any()
    assert rig.learned == 0
    assert not rig.counters


def test_without_a_diffusion_stage_the_guards_still_stand() -> None:
    snapshot = Params({"memory": MemoryOptions()})
    stage = Memory("memory")
    given = context(snapshot)
    stage.open(given)
    good = smooth(0)
    kept = stage.process(frame(snapshot, data=good))
    assert torch.equal(kept.data, good)
    done = stage.process(frame(snapshot, data=broken(), motion=STILL), previous=kept)
    assert torch.equal(done.data, good)
    assert given.counters == {("memory", "rejected: not finite"): 1}


def test_stage_leaves_its_input_alone() -> None:
    rig = Rig(params(memory={"rate": 1.0}))
    given = smooth(0) + 0.2
    copy = given.clone()
    rig.step(given)
    assert torch.equal(given, copy)


def test_jump_after_a_switch_of_style_has_settled_is_replaced() -> None:
    rig = Rig()
    rig.step(smooth(0), previous=frame(params(), data=smooth(0)))  # another snapshot
    for _ in range(14):
        assert not rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0))).flags
    done = rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0)))
    assert done.flags == FrameFlag.REPLACED
