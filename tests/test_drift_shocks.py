"""What is done to a stream's history to see whether it recovers."""

import numpy as np
import pytest

from lsd.lab.drift.shocks import SHOCKS, noise_like, shocks

SHAPE = (256, 256, 3)


@pytest.fixture
def picture():
    """A soft picture away from black and white, float32 [256, 256, 3]."""
    y, x = np.indices(SHAPE[:2], np.float32)
    return np.stack([0.5 + 0.1 * np.sin(x / 9), 0.4 + y / 1280, 0.6 - x / 1280], -1)


@pytest.fixture
def shocked(picture):
    other = np.full(SHAPE, 0.25)
    return {name: shock(picture) for name, shock in shocks(other).items()}


def test_all_shocks_are_there_in_order():
    assert tuple(shocks(np.zeros(SHAPE))) == SHOCKS


@pytest.mark.parametrize("name", SHOCKS)
def test_a_shock_gives_another_history_and_leaves_the_picture_alone(name, picture):
    before = picture.copy()

    result = shocks(np.zeros(SHAPE))[name](picture)

    assert result.dtype == np.float32
    assert result.shape == SHAPE
    assert np.isnan(result).all() if name == "nan" else (0 <= result.min() <= result.max() <= 1)
    assert not np.array_equal(result, picture)
    assert not np.shares_memory(result, picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("name", SHOCKS)
def test_a_shock_is_always_the_same(name, picture):
    other = np.full(SHAPE, 0.25)

    np.testing.assert_array_equal(*(shocks(other)[name](picture) for _ in range(2)))


def test_noise_has_a_standard_deviation_of_three_tenths(shocked):
    grey = shocks(np.zeros(SHAPE))["noise"](np.full(SHAPE, 0.5, np.float32))

    # clipped at 0 and 1: 1.67 standard deviations away
    assert (grey - 0.5).std() == pytest.approx(0.27, abs=0.01)
    assert noise_like(grey).std() == pytest.approx(1, abs=0.01)


def test_a_cast_lifts_red_alone(picture, shocked):
    np.testing.assert_allclose(
        shocked["cast"] - picture, [[[0.2, 0, 0]]] * np.ones(SHAPE), atol=1e-6
    )


def test_a_blur_is_as_wide_as_the_picture_is_large():
    point = np.zeros(SHAPE, np.float32)
    point[128, 128] = 1
    small = np.zeros((64, 64, 3), np.float32)
    small[32, 32] = 1

    for y, sigma in ((point, 3.0), (small, 0.75)):
        profile = shocks(y)["blur"](y)[..., 0].sum(0)
        x = np.arange(len(profile)) - len(profile) // 2
        assert np.sqrt((profile * x * x).sum()) == pytest.approx(sigma, rel=0.1)


def test_salt_makes_a_twentieth_of_the_pixels_white(picture, shocked):
    changed = (shocked["salt"] != picture).any(-1)

    assert changed.mean() == pytest.approx(0.05, abs=0.005)
    assert (shocked["salt"][changed] == 1).all()


def test_a_shift_moves_half_the_picture_to_the_other_side(picture, shocked):
    np.testing.assert_array_equal(shocked["shift"][:, :128], picture[:, 128:])
    np.testing.assert_array_equal(shocked["shift"][:, 128:], picture[:, :128])


def test_the_plain_ones_leave_nothing_of_the_picture(shocked):
    assert (shocked["black"] == 0).all()
    assert (shocked["red"] == [1, 0, 0]).all()
    assert (shocked["scene"] == 0.25).all()
