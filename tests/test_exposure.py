"""The camera's gain: told from all else that changes in a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_frames import flow, scene

from lsd.stages import exposure

Array = npt.NDArray[Any]


def muted(index: int = 0, side: int = 64) -> Array:
    """Draw a scene of waves that leaves room above and below; float64 [side, side, 3]."""
    return scene(index, side)[0].numpy() * 0.5 + 40.0


def shrunk(picture: Array) -> Array:
    pixels = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    return exposure.shrunk(torch.from_numpy(pixels)[None])


def measured(now: Array, then: Array, motion: torch.Tensor | None = None) -> Array:
    found = exposure.gain(shrunk(now), shrunk(then), motion)
    assert found is not None
    return found


@pytest.mark.parametrize("size", [(64, 64), (80, 256), (512, 128)])
def test_picture_that_is_compared_has_one_size(size: tuple[int, int]) -> None:
    small = exposure.shrunk(torch.full((1, *size, 3), 77, dtype=torch.uint8))
    assert small.shape == (exposure.CELLS, exposure.CELLS, 3)
    assert small.dtype == np.float32
    assert np.allclose(small, 77)


@settings(max_examples=25)
@given(factors=st.lists(st.floats(0.8, 1.25), min_size=3, max_size=3))
def test_gain_of_each_channel_is_found(factors: list[float]) -> None:
    wanted = np.log(factors)
    found = measured(muted() * factors, muted())
    # below .008 it may be taken for noise
    assert np.abs(found - wanted).max() < 0.005 + 0.008 * (np.abs(wanted).max() < 0.012)


@pytest.mark.parametrize("pan", [(0.0, 0.0), (2.0, 1.0), (-3.5, 5.0)])
def test_gain_is_found_under_motion(pan: tuple[float, float]) -> None:
    now = scene(1, pan=pan)[0].numpy() * 0.5 + 40.0
    found = measured(now * 0.9, muted(), flow(*pan))
    assert np.abs(found - np.log(0.9)).max() < 0.01


@pytest.mark.parametrize("pan", [(2.0, 1.0), (-3.5, 5.0), (0.4, -0.3)])
def test_motion_alone_is_no_gain(pan: tuple[float, float]) -> None:
    now = scene(1, pan=pan)[0].numpy() * 0.5 + 40.0
    assert not measured(now, muted(), flow(*pan)).any()


@pytest.mark.parametrize("factor", [1.0, 1.004, 0.996])
def test_change_that_noise_could_be_is_no_gain(factor: float) -> None:
    assert not measured(muted() * factor, muted()).any()


def test_sensor_noise_is_no_gain() -> None:
    random = np.random.default_rng(0)
    noisy = [muted() + 5 * random.standard_normal((64, 64, 3)) for _ in range(8)]
    for now, then in zip(noisy[1:], noisy, strict=False):
        assert not measured(now, then, flow(0.0, 0.0)).any()


@pytest.mark.parametrize(("rows", "columns"), [(16, 48), (28, 28)])
def test_object_in_a_fifth_of_the_picture_does_not_matter(rows: int, columns: int) -> None:
    now = muted() * 0.9
    now[:rows, :columns] = 150.0
    assert np.abs(measured(now, muted()) - np.log(0.9)).max() < 0.01


def test_light_on_one_side_is_not_the_cameras() -> None:
    now = muted()
    now[:, :32] *= 1.2
    assert not measured(now, muted()).any()


def test_dissolve_to_another_picture_is_no_gain() -> None:
    one, other = muted(), 30.0 + 1.2 * muted(40)[::-1]
    for share in (0.04, 0.2, 0.5):
        assert not measured(one + share * (other - one), one).any()


@pytest.mark.parametrize("level", [0.0, 3.0, 252.0, 255.0])
def test_nothing_is_said_of_a_picture_too_dark_or_too_bright(level: float) -> None:
    blank = np.full((64, 64, 3), level)
    assert exposure.gain(shrunk(blank), shrunk(muted())) is None
    assert exposure.gain(shrunk(muted()), shrunk(blank)) is None


def test_nothing_is_said_where_the_camera_has_not_looked() -> None:
    assert exposure.gain(shrunk(muted()), shrunk(muted()), flow(60.0, 0.0)) is None


def test_clipped_highlights_do_not_count() -> None:
    lamps = muted()
    lamps[8:56:16, 8:56:16] = lamps[12:60:16, 12:60:16] = 250.0
    found = measured(np.minimum(lamps * 1.2, 255), lamps)
    assert np.abs(found - np.log(1.2)).max() < 0.02


def test_grey_picture_has_one_gain() -> None:
    grey = muted().mean(2, keepdims=True).repeat(3, axis=2)
    found = measured(grey * 1.1, grey)
    assert np.ptp(found) == 0.0
    assert found[0] == pytest.approx(np.log(1.1), abs=0.005)


def cosine(one: torch.Tensor | None, other: torch.Tensor | None) -> float:
    assert one is not None
    assert other is not None
    return float(torch.cosine_similarity(one, other, dim=0))


def test_key_does_not_depend_on_the_exposure() -> None:
    keys = [exposure.key(shrunk(muted() * f)) for f in ([1, 1, 1], [0.7, 0.8, 0.6])]
    assert cosine(*keys) > 0.999
    assert keys[0] is not None
    assert keys[0].shape == (exposure.KEY_SIZE,)


def test_key_tells_views_apart() -> None:
    other = muted()[::-1, ::-1].copy()
    assert cosine(exposure.key(shrunk(muted())), exposure.key(shrunk(other))) < 0.5


@pytest.mark.parametrize("level", [0.0, 90.0, 255.0])
def test_flat_picture_has_no_key(level: float) -> None:
    noise = np.random.default_rng(0).standard_normal((64, 64, 3))
    assert exposure.key(shrunk(level + 3 * noise)) is None


def test_scaling_multiplies_rounds_and_clips() -> None:
    source = torch.tensor([[10, 100, 200], [0, 255, 3]], dtype=torch.uint8).view(1, 1, 2, 3)
    done = exposure.scaled(source, np.float32([1.5, 0.5, 1.3]))
    assert done.dtype == torch.uint8
    assert done.view(2, 3).tolist() == [[15, 50, 255], [0, 128, 4]]


def test_scaling_by_one_keeps_every_level() -> None:
    source = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).view(1, 16, 16, 3)
    assert torch.equal(exposure.scaled(source, np.ones(3, np.float32)), source)
