"""The teachers: deterministic pictures in range, textured where they say so."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from model_frames import scene
from numpy.typing import NDArray

from lsd.lab.teachers import DECAY, TEACHERS, teacher_of
from lsd.stages.models.conditioning import STYLE_SIZE
from lsd.stages.models.palette import seeded_palette
from lsd.stages.models.styles import INDEX, STYLES
from lsd.stages.models.texture import TextureField
from training.data import styled

Array = NDArray[np.float32]
PAST = np.random.default_rng(3).random((64, 64, 3), np.float32)
each_style = pytest.mark.parametrize("name", TEACHERS)


def picture(width: int = 64, height: int = 64) -> Array:
    """Return a colourful frame in [0, 1]."""
    pixels = scene(0, max(width, height))[0, :height, :width]
    return np.ascontiguousarray(pixels.numpy().astype(np.float32) / 255.0)


def field(seed: int, width: int = 64, height: int = 64) -> Array:
    return _drawn(seed, width, height).copy()


@lru_cache
def _drawn(seed: int, width: int, height: int) -> Array:
    return TextureField(seed, width, height).sample()


def test_order_is_that_of_the_styles() -> None:
    assert list(TEACHERS) == [style.name for style in STYLES]


@each_style
@pytest.mark.parametrize(("width", "height"), [(16, 16), (200, 120)])
def test_picture_is_in_range_at_any_size(name: str, width: int, height: int) -> None:
    out = TEACHERS[name](picture(width, height), field(1, width, height), None)
    assert out.shape == (height, width, 3)
    assert np.isfinite(out).all()
    assert out.min() >= -1e-6  # mixes of colours round
    assert out.max() <= 1.0 + 1e-6


@each_style
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_frame_of_one_colour_gives_a_picture_in_range(name: str, level: float) -> None:
    out = TEACHERS[name](np.full((32, 32, 3), level, np.float32), field(1, 32, 32), None)
    assert np.isfinite(out).all()
    assert out.min() >= -1e-6
    assert out.max() <= 1.0 + 1e-6


@each_style
def test_equal_inputs_give_equal_pictures(name: str) -> None:
    one, other = (TEACHERS[name](picture(), field(1)) for _ in range(2))
    assert np.array_equal(one, other)


@each_style
def test_frame_and_field_are_left_alone(name: str) -> None:
    frame, texture = picture(), field(1)
    TEACHERS[name](frame, texture)
    assert np.array_equal(frame, picture())
    assert np.array_equal(texture, field(1))


@each_style
def test_picture_depends_on_the_field_just_where_the_style_is_textured(name: str) -> None:
    one, other = (TEACHERS[name](picture(), field(seed), PAST) for seed in (1, 2))
    if STYLES[INDEX[name]].textured:
        # a texture that an eye can see; the fire's one frame bends a flame by a pixel
        assert np.abs(one - other).mean() > (0.001 if STYLES[INDEX[name]].stateful else 0.01)
    else:
        assert np.array_equal(one, other)


@each_style
def test_style_is_far_from_the_input(name: str) -> None:
    assert np.abs(TEACHERS[name](picture(), field(1), None) - picture()).mean() > 0.1


def test_any_two_styles_are_far_from_each_other() -> None:
    pictures = {name: teach(picture(), field(1), None) for name, teach in TEACHERS.items()}
    for one, shown in pictures.items():
        for other, beside in pictures.items():
            if one < other:
                assert np.abs(shown - beside).mean() > 0.05, (one, other)


@each_style
def test_faint_noise_of_the_camera_does_not_turn_the_picture_over(name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.004, (64, 64, 3)).astype(np.float32)
    still, noisy = (TEACHERS[name](picture() + n, field(1), None) for n in (0.0, noise))
    # one grey level in, ten out at most on average: soft steps, not hard ones
    assert np.abs(still - noisy).mean() < 10 * np.abs(noise).mean()


def weights(**shares: float) -> Array:
    vector = np.zeros(STYLE_SIZE, np.float32)
    for name, share in shares.items():
        vector[INDEX[name]] = share
    return vector


def test_no_style_at_all_is_the_frame_itself() -> None:
    out = styled(picture(), field(1), weights())
    assert np.abs((out + 1) / 2 - picture()).max() < 1e-6


def test_one_style_is_its_teachers_picture_in_the_networks_range() -> None:
    out = styled(picture(), field(1), weights(brush=1.0))
    assert out.dtype == np.float32
    expected = TEACHERS["brush"](picture(), field(1), None) * 2 - 1
    assert np.abs(out - expected).max() < 1e-5


def test_mix_is_the_teachers_pictures_by_weight_and_the_frame_for_the_rest() -> None:
    out = styled(picture(), field(1), weights(ink=0.5, gold=0.3))
    ink, gold = (TEACHERS[name](picture(), field(1), None) for name in ("ink", "gold"))
    expected = 0.5 * ink + 0.3 * gold + 0.2 * picture()
    assert np.abs((out + 1) / 2 - expected).max() < 1e-5


def test_mix_takes_the_palette_that_the_network_is_given() -> None:
    vector = weights(palette=1.0)
    vector[len(STYLES) :] = seeded_palette(5).ravel() * 2 - 1
    expected = teacher_of("palette", 5)(picture(), field(1), None) * 2 - 1
    assert np.abs(styled(picture(), field(1), vector) - expected).max() < 1e-5


def test_seed_draws_the_palette() -> None:
    one, other = (teacher_of("palette", seed)(picture(), field(1), None) for seed in (1, 2))
    assert np.abs(one - other).mean() > 0.05


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_are_plain_washes_without_rims(level: float) -> None:
    out = TEACHERS["aquarelle"](np.full((32, 32, 3), level, np.float32), field(1, 32, 32), None)
    assert out.std() < 0.05
    assert np.abs(out.mean() - (0.5 + 0.5 * (0.125 if level == 0 else 0.875))) < 0.05


def test_fire_rises_and_dies_down() -> None:
    dark, calm = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 3), np.float32)
    past = dark.copy()
    past[40:44] = TEACHERS["ember"](picture(), calm, None).max(axis=(0, 1))  # a hot row
    heights, heat = [], []
    for _ in range(12):
        past = TEACHERS["ember"](dark, calm, past)
        rows = past.mean(axis=(1, 2)) - past.mean(axis=(1, 2)).min()
        heights.append(rows @ np.arange(64) / rows.sum())
        heat.append(past.mean(axis=2).max())
    assert heights[4] < heights[0] - 4  # up is towards row 0
    assert heat[11] < heat[0] * 0.3
    assert DECAY**15 < 0.1  # what the lab's gate on recovery asks of a stream


def test_only_the_fire_looks_at_its_past() -> None:
    for name, teach in TEACHERS.items():
        same = np.array_equal(
            teach(picture(), field(1), None), teach(picture(), field(1), np.ones_like(PAST))
        )
        assert same != STYLES[INDEX[name]].stateful
