"""Motion: the flow points back to where things were, and stops at a cut."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import context

from lsd.pipeline.frame import Size
from lsd.stages.motion import MotionEstimator
from lsd.stages.sources.fit import fit
from lsd.stages.sources.pattern import MOTION
from lsd.stages.sources.table import open_source


def moving(size: int, count: int = 2) -> list[np.ndarray]:
    source = open_source(f"test://moving?size={size}x{size}&seed=3", context(), loop=False)
    return [source.read().pixels for _ in range(count)]


@pytest.mark.parametrize("size", [128, 352])  # 352: computed at half size, scaled back
def test_flow_points_to_where_the_picture_was(size: int) -> None:
    motion = MotionEstimator(Size(size, size))
    first, second = moving(size)
    motion.step(first, reset=True)
    flow = motion.step(second, reset=False)
    inside = flow[16:-16, 16:-16]  # what enters at the edge came from nowhere
    dx, dy = MOTION["moving"]
    # DIS on a smooth texture: a tenth of a pixel at the median, as measured.
    assert np.median(inside, (0, 1)) == pytest.approx([-dx, -dy], abs=0.15)


def test_last_picture_warped_by_the_flow_is_the_new_one() -> None:
    motion = MotionEstimator(Size(128, 128))
    first, second = moving(128)
    motion.step(first, reset=True)
    flow = motion.step(second, reset=False)
    y, x = np.indices((128, 128), np.float32)
    warped = cv2.remap(first, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    error = np.abs(warped.astype(float) - second)[16:-16, 16:-16].mean()
    unmoved = np.abs(first.astype(float) - second)[16:-16, 16:-16].mean()
    assert error < unmoved / 4


def test_flow_is_float32_of_the_pictures_size() -> None:
    motion = MotionEstimator(Size(352, 176))
    motion.step(np.zeros((176, 352, 3), np.uint8), reset=True)
    flow = motion.step(np.zeros((176, 352, 3), np.uint8), reset=False)
    assert flow.shape == (176, 352, 2)
    assert flow.dtype == np.float32


def test_first_picture_has_no_motion() -> None:
    assert MotionEstimator(Size(128, 128)).step(moving(128)[0], reset=False) is None


def test_reset_forgets_the_last_picture() -> None:
    motion = MotionEstimator(Size(128, 128))
    first, second = moving(128)
    motion.step(first, reset=False)
    assert motion.step(second, reset=True) is None


def cuts_of(pictures: list[np.ndarray]) -> list[int]:
    """Return the pictures that have no motion although one came before."""
    height, width = pictures[0].shape[:2]
    motion = MotionEstimator(Size(width, height))
    flows = [motion.step(pixels, reset=False) for pixels in pictures]
    assert flows[0] is None
    return [index for index, flow in enumerate(flows) if flow is None and index > 0]


@pytest.mark.slow
def test_only_cut_of_the_bundled_clip_is_found() -> None:
    source = open_source("asset://city", context(), loop=False)
    shots = iter(source.read, None)
    assert cuts_of([fit(shot.pixels, Size(128, 128), "crop") for shot in shots]) == [116]


def test_cut_between_scenes_is_found() -> None:
    random = np.random.default_rng(0)
    a, b = (cv2.resize(random.integers(0, 256, (8, 8, 3), np.uint8), (64, 64)) for _ in "ab")
    assert cuts_of([a, a, b, b, a]) == [2, 4]


def test_cut_from_black_is_found() -> None:
    assert cuts_of([np.zeros((128, 128, 3), np.uint8), *moving(128)]) == [1]


def test_flash_is_no_cut() -> None:
    dark = moving(128)[0] // 2
    assert cuts_of([dark, dark + 100, dark]) == []


@pytest.mark.parametrize("step", [2, 4, 6])
def test_fast_pan_is_no_cut(step: int) -> None:
    texture = moving(128)[0]
    assert cuts_of([np.roll(texture, step * index, axis=1) for index in range(8)]) == []


def test_fade_from_black_is_no_cut() -> None:
    texture = moving(128)[0]
    assert cuts_of([(texture * (step / 20)).astype(np.uint8) for step in range(21)]) == []
