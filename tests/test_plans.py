"""Diffusion makes a frame as planned: steps, size, the last output again; and recovers from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import CollectingSink, FakeSource, make_runner
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
    with_params,
)
from torch import Tensor

from lsd.kernels import ops
from lsd.pipeline.frame import TENSOR, Frame, FrameFlag, Size
from lsd.pipeline.graph import FeedbackEdge
from lsd.pipeline.ladder import Rung, RungSpec
from lsd.pipeline.params import Params, ParamStore
from lsd.pipeline.scheduler import Plan
from lsd.pipeline.stage import Captured
from lsd.stages.blend import Blend
from lsd.stages.diffusion import Diffusion
from lsd.stages.memory import Memory
from lsd.stages.models.denoiser import UNetDenoiser
from lsd.stages.recall import Recall
from lsd.stages.resized import enlarged, shrunk
from lsd.stages.stillness import SETTLES

SIDE = 128
FULL, TWICE = Rung(1, Size(SIDE, SIDE), 1.0), Rung(2, Size(SIDE, SIDE), 1.0)
HALF, AGAIN = Rung(1, Size(64, 64), 0.5), Rung(0, Size(SIDE, SIDE), 0.98)
LADDER = (TWICE, FULL, HALF, AGAIN)
POSTER = {"prompt": "poster"}


def planned(given: Frame, rung: Rung, why: Any = "level") -> Frame:
    return replace(given, plan=Plan(0, rung, 0, why), deadline_ns=1)


def opened(
    snapshot: Params, denoiser: OwnDenoiser | None = None, ladder: Any = LADDER
) -> Diffusion:
    stage = Diffusion("diffusion", denoiser)
    stage.open(context(snapshot, SIDE))
    stage.prepare([rung for rung in ladder if denoiser is None or rung.size == FULL.size])
    return stage


def pictures(index: int, snapshot: Params) -> Frame:
    given = moving_frame(snapshot, 0)
    motion = flow(*PAN, SIDE) if index else None
    picture = scene(index, SIDE)
    return replace(given, seq=index, data=picture, source=picture, motion=motion)


def own() -> OwnDenoiser:
    return OwnDenoiser(lambda x, **others: smooth(0, x.shape[-1]))


def past(snapshot: Params) -> Frame:
    return replace(pictures(0, snapshot), data=smooth(5, SIDE))


def test_plan_of_what_the_options_say_changes_no_bit() -> None:
    snapshot = params(diffusion=POSTER)
    one, other = opened(snapshot), opened(snapshot)
    plain = one.process(pictures(1, snapshot), previous=past(snapshot))
    made = other.process(planned(pictures(1, snapshot), FULL), previous=past(snapshot))
    assert torch.equal(plain.data, made.data)
    assert (plain.rung, made.rung) == (None, FULL)


@pytest.mark.parametrize("rung", [FULL, TWICE])
def test_network_runs_as_often_as_planned(rung: Rung) -> None:
    snapshot, denoiser = params(), own()
    made = opened(snapshot, denoiser).process(planned(pictures(0, snapshot), rung))
    assert len(denoiser.calls) == rung.steps
    assert made.rung == rung


def test_smaller_rung_works_on_a_smaller_picture_and_gives_one_of_the_pipelines_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[str, Any]] = []
    real = UNetDenoiser.__call__

    def spy(self: Any, x: Tensor, sigma: float, picture: Tensor, *rest: Any) -> Tensor:
        seen.append({"x": x, "frame": picture, "history": rest[0]})
        return real(self, x, sigma, picture, *rest)

    monkeypatch.setattr(UNetDenoiser, "__call__", spy)
    snapshot = params(diffusion=POSTER)
    stage = opened(snapshot)
    made = stage.process(planned(pictures(1, snapshot), HALF), previous=past(snapshot))
    assert made.data.shape == (1, 3, SIDE, SIDE)
    assert made.data.abs().max() <= 1.0
    assert seen[0]["x"].shape == (1, 3, 64, 64)
    assert seen[0]["frame"].shape == (1, 64, 64, 3)
    assert seen[0]["history"].shape == (1, 64, 64, 4)
    assert made.history is not None
    assert made.history.shape == (1, SIDE, SIDE, 4)  # the blend's, of the pipeline's size
    assert made.rung == HALF


def test_shrunk_field_keeps_its_variance_and_its_places() -> None:
    large = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 128, 128)))
    large = large.to(torch.float32)
    large[..., :64] += 4.0
    large = (large - large.mean()) / large.std()
    _, small = shrunk(pictures(0, params()), large, Size(96, 96))
    assert small.shape == (1, 3, 96, 96)
    assert small.std((2, 3)) == pytest.approx(torch.ones(1, 3), abs=0.01)
    assert small[..., :48].mean() > 0.9
    assert small[..., 48:].mean() < -0.9


def test_enlarged_picture_stays_in_range() -> None:
    edges = torch.ones((1, 3, 64, 64))
    edges[..., ::3] = -1.0
    assert enlarged(edges, Size(96, 96)).abs().max() == 1.0


def test_last_output_is_warped_by_the_inputs_motion_without_the_network() -> None:
    snapshot, denoiser = params(), own()
    before = past(snapshot)
    stage = opened(snapshot, denoiser)
    given = planned(pictures(1, snapshot), AGAIN, "reused")
    made = stage.process(given, previous=before)
    assert not denoiser.calls
    assert made.flags & FrameFlag.REUSED
    assert torch.equal(made.data, ops.warp(before.data, flow(*PAN, SIDE)))
    assert made.rung == AGAIN


def test_last_output_of_a_still_input_is_left_as_it_is() -> None:
    snapshot, denoiser = params(), own()
    before = past(snapshot)
    given = planned(pictures(1, snapshot), AGAIN, "similar")
    made = opened(snapshot, denoiser).process(given, previous=before)
    assert made.data is before.data
    assert not denoiser.calls


@pytest.mark.parametrize("has_past", [True, False])
def test_frame_without_a_past_is_made_on_the_lowest_rung_instead(has_past: bool) -> None:
    snapshot = params(diffusion=POSTER)
    given = planned(pictures(0 if has_past else 1, snapshot), AGAIN, "reused")
    made = opened(snapshot).process(given, previous=past(snapshot) if has_past else None)
    assert made.rung == HALF
    assert not made.flags & FrameFlag.REUSED


def test_bypass_wins_over_every_plan() -> None:
    snapshot, denoiser = params(diffusion={"bypass": True}), own()
    for rung in (TWICE, AGAIN):
        given = planned(pictures(1, snapshot), rung)
        made = opened(snapshot, denoiser).process(given, previous=past(snapshot))
        assert torch.equal(ops.tensor_to_frame(made.data), given.source)
        assert made.flags == FrameFlag.PASSTHROUGH


def test_sampling_stops_between_two_steps_when_time_is_up() -> None:
    snapshot = params(diffusion={**POSTER, "steps": 3})
    pictures_of = {}
    for asked in ([False], [True, False], [True, True]):
        answers, steps = iter(asked), []
        stage = opened(snapshot)

        def may_go_on(given: Frame, step_ns: int, answers=answers, steps=steps) -> bool:  # type: ignore[no-untyped-def]
            steps.append((given.seq, step_ns))
            return next(answers)

        stage._context.may_go_on = may_go_on
        made = stage.process(planned(pictures(0, snapshot), Rung(3, FULL.size, 1.0)))
        assert len(steps) == len(asked)
        assert made.rung is not None
        pictures_of[made.rung.steps] = made.data
    assert sorted(pictures_of) == [1, 2, 3]
    one_step = opened(snapshot).process(
        with_params(pictures(0, snapshot), params(diffusion=POSTER))
    )
    assert torch.equal(pictures_of[1], one_step.data)  # the first estimate is a picture
    assert pictures_of[2].abs().max() <= 1.0  # and no noise is left in the second
    assert (pictures_of[2] - pictures_of[3]).abs().mean() < 0.1


def test_steps_that_the_user_changes_hold_for_the_best_rung_and_bound_the_others() -> None:
    denoiser, start, more, fewer = own(), params(diffusion={"steps": 2}), params(
        diffusion={"steps": 4}
    ), params(diffusion={"steps": 1})  # fmt: skip
    stage = opened(start, denoiser)
    counts = []
    for snapshot, rung in ((start, TWICE), (more, TWICE), (more, FULL), (fewer, TWICE)):
        before = len(denoiser.calls)
        stage.process(planned(pictures(0, snapshot), rung))
        counts.append(len(denoiser.calls) - before)
    assert counts == [2, 4, 1, 1]


def test_model_of_ones_own_offers_no_sizes() -> None:
    assert opened(params(diffusion={"steps": 2}), own()).ways() == (2, False, True)
    assert opened(params()).ways() == (1, True, True)


def test_reused_picture_is_not_blended_and_becomes_history() -> None:
    snapshot, calls = params(), []
    blend = Blend("blend", lambda *given: calls.append(given))
    blend.open(context(snapshot, SIDE))
    given = replace(pictures(1, snapshot), data=smooth(1, SIDE), flags=FrameFlag.REUSED)
    made = blend.process(given, previous=past(snapshot))
    assert torch.equal(made.data, smooth(1, SIDE))
    assert not calls


# what is still


def settled(snapshot: Params, picture: Tensor, rung: Rung = FULL) -> Diffusion:
    """Return a stage that has made enough pictures of the same input."""
    stage = opened(snapshot, own())
    for index in range(SETTLES + 1):
        stage.process(planned(still_frame(snapshot, index, picture), rung))
    return stage


def still_frame(snapshot: Params, index: int, picture: Tensor) -> Frame:
    return frame(snapshot, index, source=picture, motion=flow(0.0, 0.0, SIDE))


def noisy(picture: Tensor, std: float, seed: int) -> Tensor:
    noise = np.random.default_rng(seed).normal(0, std, picture.shape)
    return torch.from_numpy(np.clip(picture.numpy() + noise, 0, 255).round().astype(np.uint8))


def test_still_input_is_still_once_its_picture_has_settled() -> None:
    snapshot, picture = params(diffusion=POSTER), scene(0, SIDE)
    stage = opened(snapshot, own())
    seen = []
    for index in range(SETTLES + 3):
        given = still_frame(snapshot, index, picture)
        seen.append(stage.is_still(given))
        stage.process(planned(given, FULL))
    assert seen == [False] * (SETTLES + 1) + [True] * 2


def test_noise_of_a_camera_is_still() -> None:
    snapshot, picture = params(diffusion=POSTER), scene(0, SIDE)
    stage = settled(snapshot, picture)
    assert stage.is_still(still_frame(snapshot, 99, noisy(picture, 1.0, 1)))


@pytest.mark.parametrize("style", ["brush", "ember"])
def test_texture_is_never_still(style: str) -> None:
    snapshot = params(diffusion={"styles": {style: 1.0}})
    picture = scene(0, SIDE)
    assert not settled(snapshot, picture).is_still(still_frame(snapshot, 99, picture))


def test_what_changes_is_not_still() -> None:
    snapshot, picture = params(diffusion=POSTER), scene(0, SIDE)
    stage = settled(snapshot, picture)
    assert stage.is_still(still_frame(snapshot, 99, picture))
    moved = picture.clone()
    moved[:, 40:52, 40:52] = picture[:, 80:92, 80:92]
    brighter = (picture.to(torch.int32) + 1).clamp(0, 255).to(torch.uint8)
    for index, other in enumerate((moved, brighter, scene(1, SIDE))):
        assert not stage.is_still(still_frame(snapshot, 100 + index, other))
    assert not stage.is_still(replace(still_frame(snapshot, 110, picture), motion=None))
    again = params(diffusion=POSTER)  # as a change of any option leaves behind
    assert not stage.is_still(still_frame(again, 111, picture))
    bypassed = params(diffusion={"bypass": True})
    assert not stage.is_still(still_frame(bypassed, 112, picture))


def test_slow_fade_is_compared_with_what_the_last_picture_was_made_of() -> None:
    snapshot, picture = (
        params(diffusion=POSTER),
        torch.full((1, SIDE, SIDE, 3), 100, dtype=torch.uint8),
    )
    stage = settled(snapshot, picture)
    last = picture.clone()
    last[:, ::4] += 1  # a quarter of a level a frame, on average
    assert stage.is_still(still_frame(snapshot, 99, last))
    last[:, 1::4] += 1
    assert not stage.is_still(still_frame(snapshot, 100, last))


def test_change_of_the_rung_unsettles_the_picture() -> None:
    snapshot, picture = params(diffusion=POSTER), scene(0, SIDE)
    stage = settled(snapshot, picture)
    stage.process(planned(still_frame(snapshot, 98, picture), TWICE))
    assert not stage.is_still(still_frame(snapshot, 99, picture))


# recovery


def streamed(plan: dict[int, Rung], frames: int, **style: Any) -> list[Tensor]:
    """Run the shipped stages over the moving scene; the rest is made on the best rung."""
    snapshot = params(diffusion=style)
    stages = opened(snapshot, None), Memory("memory"), Blend("blend")
    for stage in stages[1:]:
        stage.open(context(snapshot, SIDE))
    loop = Loop(*stages)
    found = []
    for index in range(frames):
        rung = plan.get(index, FULL)
        why = "reused" if rung.is_reuse else "level"
        found.append(loop.step(planned(pictures(index, snapshot), rung, why)).data)
    return found


def psnr(one: Tensor, other: Tensor) -> float:
    return float(10 * torch.log10(4.0 / ((one - other) ** 2).mean()))


def detail_db(picture: Tensor) -> float:
    """Return the energy of the finest differences."""
    across = picture[..., 1:] - picture[..., :-1]
    return float(10 * torch.log10((across**2).mean()))


@pytest.mark.slow
@pytest.mark.parametrize("style", ["poster", "brush"])
def test_picture_recovers_from_a_lower_rung_as_after_a_shock(style: str) -> None:
    whole = streamed({}, 36, styles={style: 1.0})
    down, up = 10, 20
    lowered = streamed(dict.fromkeys(range(down, up), HALF), 36, styles={style: 1.0})
    for index in range(down):
        assert torch.equal(whole[index], lowered[index])
    worst = detail_db(lowered[up - 1]) - detail_db(whole[up - 1])
    assert worst < -1.0, "the lower rung must be seen, or this proves nothing"
    for index in range(up + 15, 36):
        assert abs(detail_db(lowered[index]) - detail_db(whole[index])) < 1.0
        assert psnr(lowered[index], whole[index]) > psnr(lowered[up - 1], whole[up - 1]) + 6.0


# a run begins as if nothing had been tried


class Pictures(FakeSource):
    def read(self) -> Captured | None:
        while self.runner.status().in_flight:  # type: ignore[attr-defined]
            pass
        found = super().read()
        return found and found._replace(picture=scene(found.pts_ns // 40_000_000, SIDE))

    def process(self, given: Frame, **delayed: Any) -> Frame:
        return replace(given, motion=flow(*PAN, SIDE) if given.seq else None)

    def reset(self) -> None: ...


class Tensors(CollectingSink):
    accepts = returns = TENSOR


def ran(**settings: Any) -> list[Frame]:
    snapshot = params(diffusion={"prompt": "brush"})
    stages = Recall("recall"), Diffusion("diffusion"), Memory("memory"), Blend("blend")
    source, sink = Pictures(6), Tensors()
    store = {**snapshot.stages, "recall": Recall.Options(), "capture": source.Options(kind="fake"),
             "output": sink.Options(kind="fake")}  # fmt: skip
    runner = make_runner(
        source, *stages, sink, live=True, size=Size(SIDE, SIDE), params=ParamStore(store),
        feedback=FeedbackEdge("blend", ("diffusion", "memory", "blend")), latency_ms=10_000.0,
        rate_hz=1.0, **settings,
    )  # fmt: skip
    source.runner = runner  # type: ignore[attr-defined]
    runner.start()
    assert runner.wait(60)
    assert runner.report().events == {}
    return sink.frames


@pytest.mark.slow
def test_stream_that_was_calibrated_begins_like_one_that_was_not() -> None:
    ladder = (RungSpec(), RungSpec(1, Size(64, 64)), RungSpec(is_reuse=True))
    plain, calibrated = ran(ladder="off"), ran(ladder=ladder, hold=0)
    assert [frame.plan is None for frame in plain] == [True] * 6
    assert [str(frame.rung) for frame in calibrated] == ["128x128, 1 step"] * 6
    for one, other in zip(plain, calibrated, strict=True):
        assert torch.equal(one.data, other.data)
