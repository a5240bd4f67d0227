"""The recall stage: a camera's hunting is taken out, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_frames import context, flow, params, scene

from lsd.lab.drift.inputs import INPUTS, open_input
from lsd.pipeline.frame import Frame, FrameFlag, Size
from lsd.pipeline.params import Params
from lsd.stages.diffusion import DiffusionOptions
from lsd.stages.motion import MotionEstimator
from lsd.stages.recall import Recall, RecallOptions

Array = npt.NDArray[Any]
SIDE = Size(64, 64)
PERIOD_NS = 40_000_000
SETTLED = 30  # frames after which a camera's exposure counts as found


def options(bypass: bool = False, **changes: Any) -> Params:
    stages = {"recall": RecallOptions(**changes), "diffusion": DiffusionOptions(bypass=bypass)}
    return Params(stages)


class Camera:
    """Shows pictures to a recall stage, with the motion that capture would find."""

    def __init__(self, **changes: Any) -> None:
        self.snapshot = options(**changes)
        self.stage = Recall("recall")
        self.stage.open(context(self.snapshot))
        self._motion = MotionEstimator(SIDE)
        self._seq = 0

    def show(self, picture: Array, *, cut: bool = False, after_ns: int = PERIOD_NS) -> Frame:
        pixels = np.clip(np.round(picture), 0, 255).astype(np.uint8)
        found = self._motion.step(pixels, reset=cut or self._seq == 0)
        data = torch.from_numpy(pixels)[None]
        self._pts_ns = 0 if self._seq == 0 else self._pts_ns + after_ns
        frame = Frame(
            seq=self._seq,
            pts_ns=self._pts_ns,
            captured_ns=0,
            deadline_ns=None,
            data=data,
            source=data,
            motion=None if found is None else torch.from_numpy(found)[None],
            params=self.snapshot,
            flags=FrameFlag.NONE if found is not None else FrameFlag.DISCONTINUITY,
        )
        self._seq += 1
        return self.stage.process(frame)

    def settle(self, picture: Array) -> Camera:
        for _ in range(SETTLED):
            self.show(picture)
        return self

    def brightness(self, picture: Array, **given: Any) -> float:
        """Return how many times as bright the picture leaves as it came; 1.0: to the bit."""
        done = self.show(picture, **given).data[0].numpy()
        came = np.clip(np.round(picture), 0, 255)
        return 1.0 if np.array_equal(done, came) else float(done.mean() / came.mean())


def muted(index: int = 0) -> Array:
    """Draw a scene that leaves room above and below; float64 [64, 64, 3]."""
    return scene(index)[0].numpy() * 0.5 + 40.0


def elsewhere() -> Array:
    return muted(40)[::-1, ::-1].copy()


def hunting(n: int) -> Array:
    """The gain of a camera whose exposure and white balance hunt, once in two seconds."""
    a = 2 * math.pi * max(0, n - SETTLED) / 50
    sway = 0.05 * math.sin(a)
    return (1 + 0.2 * math.sin(a)) * np.array([1 + sway, 1.0, 1 - sway])


def off_by(frame: Frame, wanted: Array) -> float:
    """Return the mean error in grey levels."""
    return float(np.abs(frame.data[0].numpy() - wanted).mean())


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_input_of_the_drift_lab_is_left_alone_to_the_bit(name: str) -> None:
    camera, given = Camera(), open_input(name, SIDE)
    for n in range(330 if name == "cuts" else 120):
        pixels = given.pixels(n)
        assert np.array_equal(camera.show(pixels).data[0].numpy(), pixels), n


def test_unchanged_exposure_passes_the_very_frame() -> None:
    camera = Camera().settle(muted())
    picture = torch.from_numpy(muted().astype(np.uint8))[None]
    frame = replace(camera.show(muted()), data=picture, source=picture)
    assert camera.stage.process(frame) is frame


@pytest.mark.parametrize("name", ["static", "loop", "pan"])
def test_hunting_of_exposure_and_white_balance_is_taken_out(name: str) -> None:
    camera, given = Camera(), open_input(name, SIDE)
    before, after = [], []
    for n in range(SETTLED + 100):
        clean = given.pixels(n)
        # dimmed, so that what the camera clips does not count
        done = camera.show(0.8 * clean * hunting(n))
        before.append(np.abs(0.8 * clean * hunting(n) - 0.8 * clean).mean())
        after.append(off_by(done, 0.8 * clean))
    assert np.mean(after[SETTLED:]) < 0.2 * np.mean(before[SETTLED:])


def test_source_is_steadied_too_as_later_stages_compare_it_with_the_last() -> None:
    camera = Camera().settle(muted())
    for gain in (0.96, 0.92, 0.88):
        done = camera.show(gain * muted())
    assert off_by(done, muted()) < 1.5
    assert torch.equal(done.source, done.data)


def test_half_of_it_is_taken_out_on_demand() -> None:
    camera = Camera(hold=0.5).settle(muted())
    for gain in (0.95, 0.9, 0.85, 0.81):
        brightness = camera.brightness(gain * muted())
    assert brightness == pytest.approx(0.81**-0.5, abs=0.01)


def test_hold_zero_is_off_and_forgets() -> None:
    camera = Camera().settle(muted())
    camera.show(0.92 * muted())
    camera.snapshot = options(hold=0.0)
    assert camera.brightness(0.92 * muted()) == 1.0
    camera.snapshot = options()
    assert camera.brightness(0.92 * muted()) == 1.0  # what was not watched is not known
    assert camera.brightness(muted(), cut=True) == 1.0


def test_bypassed_input_is_untouched_and_still_watched() -> None:
    camera = Camera().settle(muted())
    camera.snapshot = options(bypass=True)
    for gain in (0.95, 0.9):
        assert camera.brightness(gain * muted()) == 1.0
    camera.snapshot = options()
    assert camera.brightness(0.9 * muted()) == pytest.approx(1 / 0.9, abs=0.01)


def test_light_that_stays_changed_is_accepted_in_time() -> None:
    camera = Camera(settle_s=2.0).settle(muted())
    for n in range(5):
        camera.show((1 - 0.04 * (n + 1)) * muted())
    held = [camera.brightness(0.8 * muted()) for _ in range(200)]
    assert held == sorted(held, reverse=True)
    assert held[0] == pytest.approx(1 / 0.8, abs=0.03)
    assert held[50] == pytest.approx(1.25 ** math.exp(-1), abs=0.02)  # two seconds later
    assert held[-1] == 1.0


@pytest.mark.parametrize("after_ns", [PERIOD_NS // 2, 3 * PERIOD_NS])
def test_time_is_told_by_the_frames_time_stamps(after_ns: int) -> None:
    camera = Camera(settle_s=2.0).settle(muted())
    camera.show(0.95 * muted())
    camera.show(0.9 * muted())
    frames = 2_000_000_000 // after_ns
    held = [camera.brightness(0.9 * muted(), after_ns=after_ns) for _ in range(frames)]
    assert held[-1] == pytest.approx(0.9 ** -math.exp(-1), abs=0.02)


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_lamp_that_is_switched_shows_at_once(factor: float) -> None:
    camera = Camera().settle(muted())
    assert camera.brightness(factor * muted()) == 1.0
    assert camera.brightness(factor * muted()) == 1.0


def test_flash_shows_and_leaves_nothing_behind() -> None:
    camera = Camera().settle(muted())
    assert [camera.brightness(level * muted()) for level in (1, 2.2, 1, 1)] == [1.0] * 4


def test_slow_dusk_shows_as_it_is() -> None:
    camera = Camera().settle(muted())
    for n in range(100):  # 60 seconds to the dark
        assert camera.brightness((1 - n / 1500) * muted()) == 1.0


def test_light_on_a_part_of_the_scene_shows_as_it_is() -> None:
    camera, lit = Camera().settle(muted()), muted()
    for _ in range(4):
        lit[:, :32] *= 1.05
        assert camera.brightness(lit) == 1.0


def test_text_over_the_picture_changes_nothing_behind_it() -> None:
    camera, titled = Camera().settle(muted()), muted()
    titled[44:58, 6:58:3] = 255.0
    for picture in (titled, titled, muted()):
        assert camera.brightness(picture) == 1.0


def test_large_object_that_comes_and_stays_is_no_gain() -> None:
    camera = Camera().settle(muted())
    for n in range(30):
        picture = muted()
        picture[:, : 2 * n] = 60.0
        assert camera.brightness(picture) == 1.0


def test_dissolve_shows_as_it_is() -> None:
    camera = Camera().settle(muted())
    for n in range(26):
        share = n / 25
        assert camera.brightness((1 - share) * muted() + share * 1.3 * elsewhere()) == 1.0


@pytest.mark.parametrize("seconds", [0.5, 1.0, 4.0])
def test_fade_from_black_shows_as_it_is(seconds: float) -> None:
    camera, frames = Camera(), round(25 * seconds)
    for _ in range(10):
        camera.show(np.zeros((64, 64, 3)))
    for n in range(frames + 30):
        assert camera.brightness(min(1.0, (n + 1) / frames) * muted()) == 1.0


@pytest.mark.parametrize("seconds", [0.5, 1.0, 4.0])
def test_fade_to_black_is_held_back_for_a_while_only(seconds: float) -> None:
    camera, frames = Camera().settle(muted()), round(25 * seconds)
    held = []
    for n in range(frames - 1):
        held.append(camera.brightness((1 - (n + 1) / frames) * muted()))
    # the limit is reached after .375 of the fade; half a second to let go
    late = math.ceil(0.375 * frames) + 15
    assert max(held) < 1.65
    assert all(brightness < 1.03 for brightness in held[late:])
    assert [camera.brightness(level * muted()) for level in (0, 0, 0.5, 1)] == [1.0] * 4


def test_what_is_held_is_let_go_in_the_dark() -> None:
    camera = Camera(limit=4.0).settle(muted())
    for n in range(13):
        camera.show(0.92**n * muted())
    assert camera.brightness(0.2 * muted()) > 2.5
    held = [camera.brightness(0.07 * muted()) for _ in range(20)]
    assert held[0] > 2
    assert held[-1] == 1.0


def test_first_seconds_of_a_camera_show_as_they_are() -> None:
    camera = Camera()
    for n in range(60):  # it opens in the dark and finds its exposure in a second
        assert camera.brightness((1 - 0.6 * math.exp(-n / 8)) * muted()) == 1.0


@settings(max_examples=15)
@given(
    steps=st.lists(st.floats(-0.09, 0.09), min_size=5, max_size=40),
    limit=st.floats(1.0, 2.0),
)
def test_no_more_than_the_limit_is_ever_taken_out(steps: list[float], limit: float) -> None:
    camera, level = Camera(limit=limit).settle(muted()), 0.0
    for step in steps:
        level = min(max(level + step, -2.0), 0.3)
        brightness = camera.brightness(math.exp(level) * muted())
        # what rounding and clipping do to small numbers comes on top
        assert 1 / limit - 0.02 < brightness < limit + 0.02


def test_light_beyond_the_limit_is_let_go_in_half_a_second() -> None:
    camera = Camera(limit=1.2).settle(muted())
    for n in range(6):
        camera.show((1 - 0.05 * (n + 1)) * muted())
    held = [camera.brightness(0.7 * muted()) for _ in range(15)]
    assert held[-1] < 1.01


def returned(camera: Camera, pictures: Iterable[Array], back: Array) -> float:
    """Cut to other pictures, and then back; return how much brighter that is made."""
    for n, picture in enumerate(pictures):
        camera.show(picture, cut=n == 0)
    return camera.brightness(back, cut=True)


@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_view_comes_back_after_a_cut_as_it_was_exposed(gain: float) -> None:
    camera = Camera().settle(muted())
    away = [elsewhere()] * 40
    assert returned(camera, away, gain * muted()) == pytest.approx(1 / gain, abs=0.01)
    assert camera.brightness(gain * muted()) == pytest.approx(1 / gain, abs=0.01)


def test_view_comes_back_though_someone_has_walked_in() -> None:
    camera, back = Camera().settle(muted()), 0.85 * muted()
    back[30:, 44:60] = 70.0
    assert returned(camera, [elsewhere()] * 5, back) > 1.1


def test_without_room_for_views_none_comes_back_and_the_cameras_gain_is_still_followed() -> None:
    camera = Camera(capacity=0).settle(muted())
    assert camera.brightness(0.92 * muted()) == pytest.approx(1 / 0.92, abs=0.01)
    assert returned(camera, [elsewhere()] * 40, 0.8 * muted()) == 1.0
    successor = Camera(capacity=0)
    successor.stage.restore(camera.stage.state())
    assert successor.brightness(0.8 * muted(), cut=True) == 1.0


def test_unknown_view_after_a_cut_shows_as_it_is() -> None:
    camera = Camera().settle(muted())
    camera.show(0.92 * muted())
    assert camera.brightness(0.8 * elsewhere(), cut=True) == 1.0
    for n in range(10):  # the camera is still looking for its exposure there
        assert camera.brightness((0.8 + 0.02 * n) * elsewhere()) == 1.0


def test_view_that_comes_back_by_another_light_shows_as_it_is() -> None:
    camera = Camera().settle(muted())
    assert returned(camera, [elsewhere()] * 5, 0.5 * muted()) == 1.0


def test_blank_pictures_are_no_views() -> None:
    noise = np.random.default_rng(0).standard_normal((64, 64, 3))
    camera = Camera().settle(120 + noise)
    assert returned(camera, [muted()] * 5, 100 + noise) == 1.0


def test_view_is_remembered_as_it_was_last_shown() -> None:
    camera = Camera(settle_s=0.5).settle(muted())
    for n in range(60):  # a light that is accepted while it fades
        camera.show(max(0.8, 1 - 0.01 * n) * muted())
    camera.settle(0.8 * muted())
    assert returned(camera, [elsewhere()] * 5, 0.8 * muted()) == 1.0


def test_view_that_stays_takes_one_place_in_the_bank() -> None:
    camera = Camera(capacity=2).settle(muted())
    for _ in range(3):
        camera.show(elsewhere(), cut=True)
        for _ in range(60):
            camera.show(elsewhere())
    assert returned(camera, [], 0.8 * muted()) == pytest.approx(1.25, abs=0.01)


def test_reset_forgets_views_and_gain() -> None:
    camera = Camera().settle(muted())
    camera.show(0.92 * muted())
    camera.stage.reset()
    assert camera.brightness(0.92 * muted()) == 1.0
    assert returned(camera, [elsewhere()] * 5, 0.8 * muted()) == 1.0


@pytest.mark.parametrize("level", [0, 255])
def test_blank_input_is_left_alone(level: int) -> None:
    camera = Camera()
    for _ in range(40):
        assert np.all(camera.show(np.full((64, 64, 3), level)).data.numpy() == level)


def test_grey_input_stays_grey() -> None:
    grey = muted().mean(2, keepdims=True).repeat(3, axis=2)
    camera = Camera().settle(grey)
    for gain in (0.95, 0.9, 0.85):
        done = camera.show(np.round(gain * grey))
    assert float((done.data - done.data[..., :1]).abs().max()) == 0.0
    assert off_by(done, grey) < 1.5


def test_stage_leaves_its_input_alone() -> None:
    camera = Camera().settle(muted())
    picture = torch.from_numpy((0.92 * muted()).astype(np.uint8))[None]
    copy = picture.clone()
    before = camera.show(muted())
    moved = flow(0.0, 0.0)
    done = camera.stage.process(
        replace(before, data=picture, source=picture, motion=moved, pts_ns=before.pts_ns + 10**8)
    )
    assert torch.equal(picture, copy)
    assert not torch.equal(done.data, copy)


def test_snapshot_without_a_diffusion_stage_will_do() -> None:
    camera = Camera().settle(muted())
    camera.snapshot = Params({**params().stages, "recall": RecallOptions()})
    camera.show(0.95 * muted())
    camera.snapshot = Params({"recall": RecallOptions()})
    assert camera.brightness(0.95 * muted()) > 1.04
