"""The memory stage: broken pictures out, slow errors pulled back."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_frames import OwnDenoiser, context, flow, frame, params, scene, smooth
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.params import Params
from lsd.stages.anchor import Anchor, Half, Reference
from lsd.stages.memory import Memory, MemoryOptions

STILL = flow(0.0, 0.0)


class Wanted(Reference):
    """A reference whose anchors show `wanted`; keeps the numbers of the frames it measured."""

    def __init__(self, wanted: Tensor) -> None:
        super().__init__(OwnDenoiser(lambda **others: wanted), Size(32, 32), "diffusion")
        self.wanted = wanted
        self.begun: list[int] = []
        self.finished = 0

    def begin(self, frame: Frame, previous: Frame) -> Half:
        self.begun.append(frame.seq)
        nothing = torch.zeros(0)
        anchor = Anchor.of(self.wanted)
        return Half(anchor, anchor, nothing, nothing, 0, nothing)

    def finish(self, half: Half) -> Anchor:
        self.finished += 1
        return half.free


class Rig:
    """A memory stage whose anchors show `wanted`, and its counters."""

    def __init__(self, snapshot: Params | None = None, wanted: Tensor | None = None) -> None:
        self.snapshot = snapshot or params()
        self.reference = Wanted(smooth(0) if wanted is None else wanted)
        self.stage = Memory("memory", self.reference)
        given = context(self.snapshot)
        self.counters: Counter[tuple[str, str]] = given.counters
        self.stage.open(given)

    @property
    def wanted(self) -> Tensor:
        return self.reference.wanted

    def step(self, data: Tensor, *, previous: Frame | None = None, **changed: Any) -> Frame:
        """Take one picture of the still scene; `changed` as for `frame`."""
        given = {"motion": STILL, **changed}
        return self.stage.process(frame(self.snapshot, data=data, **given), previous=previous)

    def past(self, data: Tensor) -> Frame:
        return frame(self.snapshot, data=data)

    def anchored(self) -> Rig:
        """Begin a shot with a picture that is as wanted, which makes it the anchor."""
        self.step(self.wanted)
        return self

    def follow(self, data: Tensor, **changed: Any) -> Tensor:
        """Take one picture with a past, which is no different; return what comes out."""
        done: Tensor = self.step(data, previous=self.past(data), **changed).data
        return done


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


def test_rejected_picture_is_no_anchor() -> None:
    rig = Rig(params(memory={"rate": 1.0}))
    rig.step(broken())
    given = smooth(0) + 0.2
    assert torch.equal(rig.follow(given), given)
    assert rig.reference.begun == [0]  # still looking for its first


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


def measured_at(rig: Rig, frames: int, every: int) -> list[int]:
    """Run a still scene from its first frame on; return which frames were measured."""
    rig.snapshot = params(memory={"learn_every": every})
    rig.step(smooth(0), seq=0)
    for seq in range(1, frames):
        rig.follow(smooth(0), seq=seq)
    return rig.reference.begun


@pytest.mark.parametrize("every", [2, 10, 25])
def test_anchor_is_renewed_every_so_many_frames(every: int) -> None:
    rig = Rig()
    assert measured_at(rig, 51, every) == list(range(every, 51, every))
    assert rig.reference.finished == len(rig.reference.begun) - (50 % every == 0)


def test_no_frame_pays_for_both_halves() -> None:
    model = OwnDenoiser(lambda frame, **others: ops.frame_to_tensor(frame))
    snapshot = params(memory={"learn_every": 2})
    stage = Memory("memory", Reference(model, Size(32, 32), "diffusion"))
    stage.open(context(snapshot))
    runs = []
    for seq in range(9):
        before = len(model.calls)
        past = frame(snapshot, data=smooth(0)) if seq else None
        stage.process(frame(snapshot, seq, data=smooth(0), motion=STILL), previous=past)
        runs.append(len(model.calls) - before)
    assert runs == [0, 0, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("at_a_cut", [False, True])
def test_picture_without_a_past_is_its_own_anchor(at_a_cut: bool) -> None:
    rig = Rig(params(memory={"rate": 1.0}), wanted=smooth(9))
    cut: dict[str, Any] = {"previous": rig.past(smooth(5)), "motion": None} if at_a_cut else {}
    given = smooth(1)
    assert torch.equal(rig.step(given, **cut).data, given)
    assert not rig.reference.begun  # and costs nothing
    assert cast_of(rig.follow(given + 0.2), given) == pytest.approx(0.05, abs=0.005)


def test_cut_voids_the_anchor_and_what_was_half_measured() -> None:
    rig = Rig(params(memory={"rate": 1.0, "learn_every": 2}), wanted=smooth(9))
    rig.anchored()
    for _ in range(2):
        rig.follow(rig.wanted)
    assert rig.reference.begun == [0]  # on the second frame; its other half is due
    other = smooth(1)
    rig.step(other, previous=rig.past(smooth(9)), motion=None)
    assert torch.equal(rig.follow(other), other)
    assert rig.reference.finished == 0


def cast_of(picture: Tensor, wanted: Tensor) -> float:
    """Measure how far the mean colour is from the wanted one."""
    return float((picture - wanted).mean((2, 3)).abs().max())


@pytest.mark.parametrize("rate", [0.1, 0.4, 1.0])
def test_colour_cast_beyond_the_dead_zone_is_pulled_back_by_the_rate(rate: float) -> None:
    rig = Rig(params(memory={"rate": rate})).anchored()
    cast = rig.wanted + torch.tensor([0.15, -0.15, 0.1])[None, :, None, None]
    done = rig.follow(cast)
    assert cast_of(done, rig.wanted) == pytest.approx(0.15 - rate * 0.1, abs=0.005)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_errors_that_a_sound_network_makes_are_left_alone(sign: float) -> None:
    rig = Rig(params(memory={"rate": 1.0})).anchored()
    given = rig.wanted * (1 + 0.02 * sign) + 0.02 * sign
    assert torch.equal(rig.follow(given), given)


@settings(max_examples=20)
@given(
    cast=st.lists(st.floats(-0.25, 0.25), min_size=3, max_size=3),
    rate=st.floats(0.05, 1.0),
)
def test_correction_only_ever_brings_the_colour_nearer(cast: list[float], rate: float) -> None:
    rig = Rig(params(memory={"rate": rate})).anchored()
    given = rig.wanted + torch.tensor(cast)[None, :, None, None]
    before = Anchor.of(given).colour - Anchor.of(rig.wanted).colour
    after = Anchor.of(rig.follow(given)).colour - Anchor.of(rig.wanted).colour
    assert (after.abs() <= before.abs() + 1e-4).all()
    assert (after * before >= -1e-4).all()  # and never beyond


def test_error_that_feeds_on_itself_dies_out() -> None:
    rig = Rig(params(memory={"rate": 0.1, "learn_every": 10_000})).anchored()
    picture = rig.wanted + 0.25
    for _ in range(40):  # as if the network handed its past on unchanged
        picture = rig.follow(picture)
    # .9^40 = .015 of what is beyond the dead zone of .05
    assert cast_of(picture, rig.wanted) < 0.055


def test_lost_contrast_comes_back_to_the_dead_zone() -> None:
    rig = Rig(params(memory={"learn_every": 10_000})).anchored()
    picture = 0.7 * rig.wanted
    for _ in range(25):
        picture = rig.follow(picture)
    lost = 1 - float(picture.std() / rig.wanted.std())
    assert 0.08 < lost < 0.1


def test_correction_of_one_frame_is_limited() -> None:
    rig = Rig(params(memory={"rate": 1.0, "limit": 0.1, "guards": False})).anchored()
    done = rig.follow(rig.wanted + 0.8)
    assert (done - (rig.wanted + 0.8)).mean() == pytest.approx(-0.1, abs=0.01)


def test_rate_zero_changes_nothing_and_is_live() -> None:
    rig = Rig().anchored()
    rig.snapshot = params(memory={"rate": 0.0})
    given = smooth(0) + 0.2
    assert torch.equal(rig.follow(given), given)
    rig.snapshot = params(memory={"rate": 0.3})
    assert not torch.equal(rig.follow(given), given)


def brighter(share: float, left_only: bool = False) -> Tensor:
    """Return the scene with its pixels moved toward white."""
    picture = scene(0).float()
    columns = slice(None, 32) if left_only else slice(None)
    picture[:, :, columns] += share * (255.0 - picture[:, :, columns])
    return picture.to(torch.uint8)


def test_where_the_input_has_changed_the_anchor_does_not_count() -> None:
    rig = Rig(params(memory={"rate": 1.0})).anchored()
    given = rig.wanted + 0.2
    done = rig.follow(given, source=brighter(0.5, left_only=True))
    # 8 columns on either side lie between a cell that counts and one that does not
    assert torch.allclose(done[..., :24], given[..., :24], atol=1e-6)
    assert (given - done)[..., 40:].mean() == pytest.approx(0.15, abs=0.01)


def test_anchor_counts_less_the_more_the_input_has_changed() -> None:
    pulls = []
    for share in (0.0, 0.03, 0.06, 0.5):
        rig = Rig(params(memory={"rate": 1.0})).anchored()
        given = rig.wanted + 0.2
        pulls.append(float((given - rig.follow(given, source=brighter(share))).mean()))
    assert pulls == sorted(pulls, reverse=True)
    assert pulls[0] > pulls[1] > pulls[2] > 0.01
    assert pulls[3] == 0.0


def test_contrast_is_left_alone_where_the_whole_input_has_changed() -> None:
    rig = Rig(params(memory={"rate": 1.0})).anchored()
    given = 0.6 * rig.wanted
    assert torch.equal(rig.follow(given, source=255 - scene(0)), given)
    assert rig.follow(given).std() > 1.2 * given.std()


def test_errors_of_the_recurrence_cannot_teach_it() -> None:
    # a network that hands nine tenths of its past on, and reddens it a little
    def work(frame: Tensor, history: Tensor | None, **others: Any) -> Tensor:
        own = 0.5 * ops.frame_to_tensor(frame)
        if history is None:
            return own
        past = ops.frame_to_tensor(history[..., :3])
        return own + 0.9 * (past - own) + torch.tensor([0.03, 0, 0])[None, :, None, None]

    casts = {}
    for rate in (0.0, 0.4):
        snapshot = params(memory={"rate": rate, "learn_every": 5})
        stage = Memory("memory", Reference(OwnDenoiser(work), Size(32, 32), "diffusion"))
        stage.open(context(snapshot))
        previous: Frame | None = None
        for seq in range(30):
            seen = None
            if previous is not None:
                pixels = ops.tensor_to_frame(previous.data)
                seen = torch.cat([pixels, ops.luma(scene(0))], dim=3)
            data = work(frame=scene(0), history=seen)
            given = frame(snapshot, seq, data=data, motion=STILL if seq else None)
            previous = stage.process(given, previous=previous)
        assert previous is not None
        casts[rate] = cast_of(previous.data, 0.5 * ops.frame_to_tensor(scene(0)))
    assert casts[0.0] > 0.2
    # learned again and again from spoilt pictures, and still near the dead zone
    assert casts[0.4] < 0.1


def test_new_style_forgets_what_the_old_one_looked_like() -> None:
    rig = Rig(params(memory={"learn_every": 1000, "rate": 1.0})).anchored()
    rig.snapshot = params(diffusion={"prompt": "gold"}, memory={"learn_every": 1000, "rate": 1.0})
    rig.reference.wanted = smooth(1)
    given = smooth(1) + 0.2
    assert torch.equal(rig.follow(given, seq=1), given)  # not toward the old look
    done = rig.follow(given, seq=2)
    assert rig.reference.begun == [1]  # at once, not after 1000 frames
    assert cast_of(done, smooth(1)) == pytest.approx(0.05, abs=0.005)


def test_style_with_a_past_of_its_own_is_never_corrected() -> None:
    rig = Rig(params(diffusion={"styles": {"ember": 1.0}}, memory={"learn_every": 2})).anchored()
    given = rig.wanted + 0.3
    for _ in range(6):
        assert torch.equal(rig.follow(given), given)
    assert not rig.reference.begun


def test_reset_forgets_and_measures_anew() -> None:
    rig = Rig(params(memory={"learn_every": 1000, "rate": 1.0})).anchored()
    rig.stage.reset()
    given = rig.wanted + 0.2
    assert torch.equal(rig.follow(given), given)
    assert rig.reference.begun == [0]


def test_anchor_that_is_not_finite_is_not_taken() -> None:
    rig = Rig(params(memory={"guards": False, "rate": 1.0, "learn_every": 2})).anchored()
    rig.reference.wanted = broken()
    for _ in range(4):
        rig.follow(smooth(0))
    assert rig.reference.finished
    assert cast_of(rig.follow(smooth(0) + 0.2), smooth(0)) == pytest.approx(0.05, abs=0.005)


def test_bypassed_frame_goes_through_untouched_and_teaches_nothing() -> None:
    rig = Rig()
    done = rig.step(broken(), flags=FrameFlag.PASSTHROUGH)
    assert done.flags == FrameFlag.PASSTHROUGH
    assert done.data.isnan().any()
    assert not rig.counters
    rig.follow(smooth(0), seq=1)
    assert rig.reference.begun == [1]  # there is no anchor yet


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
    rig = Rig(params(memory={"rate": 1.0})).anchored()
    given = smooth(0) + 0.2
    copy = given.clone()
    rig.follow(given)
    assert torch.equal(given, copy)


def test_jump_after_a_switch_of_style_has_settled_is_replaced() -> None:
    rig = Rig()
    rig.step(smooth(0), previous=frame(params(), data=smooth(0)))  # another snapshot
    for _ in range(14):
        assert not rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0))).flags
    done = rig.step(smooth(0) + 0.6, previous=rig.past(smooth(0)))
    assert done.flags == FrameFlag.REPLACED
