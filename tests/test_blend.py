"""The blend stage: still areas stay still, and no past lives for long."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_frames import (
    PAN,
    Loop,
    OwnDenoiser,
    context,
    flow,
    frame,
    moving_frame,
    params,
    scene,
    smooth,
)
from torch import Tensor

from lsd.pipeline.frame import FrameFlag
from lsd.pipeline.params import Params
from lsd.stages.blend import Blend
from lsd.stages.diffusion import Diffusion
from lsd.stages.memory import Memory
from lsd.stages.models import engines
from lsd.stages.models.blendnet import MAX_WEIGHT
from lsd.stages.models.styles import INDEX

STILL = flow(0.0, 0.0)


def opened(snapshot: Params | None = None) -> Blend:
    stage = Blend("blend")
    stage.open(context(snapshot or params()))
    return stage


class Eager:
    """A network that wants this weight of history everywhere."""

    name = "eager"

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.full((1, 1, 32, 32), self.weight)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Blend]:
    """Return a maker of blends whose network wants a given weight everywhere."""

    def make(weight: float) -> Blend:
        monkeypatch.setattr(engines, "load", lambda *given, **named: Eager(weight))
        return opened()

    return make


def mixed(stage: Blend, current: Tensor, past: Tensor, **options: Any) -> Tensor:
    """Blend one picture over a still scene."""
    snapshot = params(blend=options)
    previous = frame(snapshot, data=past)
    done = stage.process(frame(snapshot, data=current, motion=STILL), previous=previous)
    data: Tensor = done.data
    return data


@pytest.mark.parametrize("wanted", [0.0, 0.5, 0.85, 1.0, 7.0])
def test_weight_of_history_never_exceeds_its_limit_whatever_the_network_wants(
    eager: Callable[[float], Blend], wanted: float
) -> None:
    out = mixed(eager(wanted), torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64))
    expected = min(wanted, MAX_WEIGHT)
    assert torch.allclose(out, torch.full_like(out, expected), atol=1e-6)


def test_negative_weight_is_none_at_all(eager: Callable[[float], Blend]) -> None:
    current = smooth(0)
    assert torch.equal(mixed(eager(-1.0), current, smooth(1)), current)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 999),
    size=st.sampled_from([1e-3, 1.0, 1e3, 1e30]),
    index=st.integers(0, 50),
)
def test_weight_never_exceeds_its_limit_for_any_input(seed: int, size: float, index: int) -> None:
    current, past = smooth(seed), smooth(seed + 1) * size
    snapshot = params()
    previous = frame(snapshot, source=scene(0), data=past)
    given_frame = frame(snapshot, source=scene(index), data=current, motion=STILL)
    out = SHIPPED().process(given_frame, previous=previous).data
    assert torch.isfinite(out).all()
    # what the weight moved, of the way to the past; both may be clamped
    limit = MAX_WEIGHT * (past - current).abs() + 1e-5
    assert ((out - current).abs() <= limit).all()


_shipped: list[Blend] = []


def SHIPPED() -> Blend:  # noqa: N802
    if not _shipped:
        _shipped.append(opened())
    return _shipped[0]


@pytest.mark.parametrize("start", [-1.0, 1.0])
def test_any_past_fades_tenfold_in_fifteen_frames(
    eager: Callable[[float], Blend], start: float
) -> None:
    snapshot, current = params(), torch.full((1, 3, 64, 64), 0.2)
    loop = Loop(eager(1.0))
    loop.previous = frame(snapshot, data=torch.full((1, 3, 64, 64), start))
    before = abs(start - 0.2)
    for seq in range(15):
        out = loop.step(frame(snapshot, seq, data=current, motion=STILL))
    assert (out.data - current).abs().max() <= before / 10


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_past_that_is_not_finite_is_left_out(eager: Callable[[float], Blend], bad: float) -> None:
    past = smooth(1)
    past[0, 1, 10, 10] = bad
    out, current = mixed(eager(0.5), smooth(0), past), smooth(0)
    assert torch.isfinite(out).all()
    assert out[0, 1, 10, 10] == current[0, 1, 10, 10]
    assert out[0, 0, 10, 10] != current[0, 0, 10, 10], "what is sound is blended"


def flicker(pictures: list[Tensor]) -> float:
    """Return the mean change from picture to picture."""
    stack = torch.cat(pictures)
    return float((stack[1:] - stack[:-1]).abs().mean())


def test_flicker_over_a_still_scene_falls() -> None:
    snapshot, loop = params(), Loop(SHIPPED())
    given_pictures = [smooth(0) + 0.05 * smooth(seed + 1) for seed in range(12)]
    out = [
        loop.step(frame(snapshot, seq, data=picture, motion=STILL if seq else None)).data
        for seq, picture in enumerate(given_pictures)
    ]
    assert flicker(out[3:]) < 0.8 * flicker(given_pictures[3:])


def test_picture_that_did_not_change_stays_as_it_is() -> None:
    picture = smooth(0)
    assert torch.allclose(mixed(SHIPPED(), picture, picture), picture, atol=1e-6)


def test_past_moves_with_the_picture(eager: Callable[[float], Blend]) -> None:
    snapshot, past = params(), smooth(1)
    previous = frame(snapshot, source=scene(0), data=past)
    given_frame = frame(
        snapshot, source=scene(1), data=torch.zeros(1, 3, 64, 64), motion=flow(2.0, 1.0)
    )
    out = eager(0.5).process(given_frame, previous=previous).data
    assert torch.allclose(out[:, :, :-1, :-2], 0.5 * past[:, :, 1:, 2:], atol=1e-6)


def test_network_is_shown_both_inputs_and_both_pictures_warped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Tensor, ...]] = []

    def load(*given: Any, **named: Any) -> Callable[..., Tensor]:
        return lambda *inputs: (seen.append(inputs), torch.zeros(1, 1, 32, 32))[1]

    monkeypatch.setattr(engines, "load", load)
    snapshot, past, current = params(), smooth(1), smooth(2)
    previous = frame(snapshot, source=scene(0), data=past)
    given_frame = frame(snapshot, source=scene(1), data=current, motion=flow(*PAN))
    opened().process(given_frame, previous=previous)
    luma, past_luma, now, then = seen[0]
    inside = slice(4, -4)
    # the scene's true motion was given: what was there is what is here, but for
    # the rounding of both pictures
    difference = (luma.int() - past_luma.int())[:, inside, inside].abs()
    assert difference.max() <= 2
    assert torch.equal(now, current)
    assert torch.allclose(then[:, :, :-1, :-2], past[:, :, 1:, 2:], atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"flags": FrameFlag.REPLACED, "motion": STILL},
        {"flags": FrameFlag.PASSTHROUGH, "motion": STILL},
        {"flags": FrameFlag.DISCONTINUITY, "motion": None},  # a cut
    ],
)
def test_frame_without_a_claim_to_history_goes_through_untouched(changed: dict[str, Any]) -> None:
    snapshot = params()
    previous = frame(snapshot, data=smooth(1))
    given_frame = frame(snapshot, data=smooth(0), **changed)
    done = SHIPPED().process(given_frame, previous=previous)
    assert torch.equal(done.data, smooth(0))
    assert done.flags == changed["flags"]


def test_first_frame_goes_through_untouched() -> None:
    done = SHIPPED().process(frame(params(), data=smooth(0), motion=STILL), previous=None)
    assert torch.equal(done.data, smooth(0))


def test_amount_scales_the_weight_and_is_live(eager: Callable[[float], Blend]) -> None:
    stage, zero, one = eager(0.8), torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    for amount in (1.0, 0.5, 0.0, 1.0):
        out = mixed(stage, zero, one, amount=amount)
        assert torch.allclose(out, torch.full_like(out, 0.8 * amount), atol=1e-6)


@pytest.mark.parametrize("has_past", [True, False])
def test_output_is_clamped(has_past: bool) -> None:
    snapshot = params()
    previous = frame(snapshot, data=1.5 * smooth(1)) if has_past else None
    given_frame = frame(snapshot, data=4.0 * smooth(0), motion=STILL)
    done = SHIPPED().process(given_frame, previous=previous)
    assert done.data.max() == 1.0
    assert done.data.min() == -1.0


def test_stage_leaves_its_inputs_alone() -> None:
    current, past = 3.0 * smooth(0), smooth(1)
    copies = current.clone(), past.clone()
    mixed(SHIPPED(), current, past)
    assert torch.equal(current, copies[0])
    assert torch.equal(past, copies[1])


def test_result_is_not_overwritten_by_the_next_frame() -> None:
    first = mixed(SHIPPED(), smooth(0), smooth(1))
    copy = first.clone()
    mixed(SHIPPED(), smooth(5), smooth(6))
    assert torch.equal(first, copy)


def stream(frames: int, snapshot: Params) -> list[Tensor]:
    """Run the three stages over the moving scene, with the feedback edge."""
    stages = [Diffusion("diffusion"), Memory("memory"), Blend("blend")]
    for stage in stages:
        stage.open(context(snapshot))
    loop = Loop(*stages)
    return [loop.step(moving_frame(snapshot, index)).data for index in range(frames)]


def test_fifty_frames_through_all_three_stages_are_finite_and_the_same_each_time() -> None:
    snapshot = params(diffusion={"prompt": "brush", "seed": 3})
    first, second = (stream(50, snapshot) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.isfinite(one).all()
        assert one.abs().max() <= 1.0
        assert torch.equal(one, other)
    assert first[-1].std() > 0.02  # not one colour


def test_switch_of_style_over_a_still_scene_is_not_taken_for_a_fault(
    eager: Callable[[float], Blend],
) -> None:
    # the old style lingers in the last output for as long as any blend can keep
    # it there; the new one is far from that, and right
    blend = eager(1.0)
    light, dark = (params(diffusion={"prompt": prompt}) for prompt in ("ink", "neon"))
    model = OwnDenoiser(
        lambda style, **others: smooth(0, std=0.1) + (0.8 if style[0, INDEX["ink"]] > 0.5 else -0.8)
    )
    stages = [Diffusion("diffusion", model), Memory("memory"), blend]
    for stage in stages:
        stage.open(context(light))
    loop = Loop(*stages)
    for index in range(40):
        motion = STILL if index else None
        snapshot = light if index < 4 else dark
        done = loop.step(frame(snapshot, index, source=scene(0), motion=motion))
        assert not done.flags & FrameFlag.REPLACED, index
    assert done.data.mean() == pytest.approx(-0.8, abs=0.05)
