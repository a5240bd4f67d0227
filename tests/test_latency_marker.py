"""The marker of `livesd latency`: what it survives, and what it never takes for a number."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd.lab.latency.marker import (
    HEIGHT,
    NUMBERS,
    WIDTH,
    code,
    number_of,
    read,
    stamp,
)

NUMBER = st.integers(0, NUMBERS - 1)


def stamped(number, width=192, height=128, ground=100):
    picture = np.full((height, width, 3), ground, np.uint8)
    stamp(picture, number)
    return picture


def as_pixels(values):
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


@given(NUMBER)
def test_number_comes_back(number):
    assert read(stamped(number)) == number


def test_number_is_kept_modulo_its_range():
    assert read(stamped(NUMBERS + 5)) == 5


def test_only_the_corner_is_painted():
    picture = stamped(7)
    assert (picture[HEIGHT:] == 100).all()
    assert (picture[:, WIDTH:] == 100).all()


@settings(max_examples=150)
@given(
    NUMBER,
    st.floats(0.1, 1.0),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1.6),
    st.floats(0, 15),
    st.integers(0, 2**32 - 1),
)
def test_number_survives_contrast_inversion_blur_and_noise(
    number, contrast, is_inverted, level, blur, noise, seed
):
    """Contrast down to a tenth (25 grey levels), and noise no stronger than what is left of it."""
    values = stamped(number).astype(np.float64)
    if blur:
        values = cv2.GaussianBlur(values, (0, 0), max(blur, 0.1))
    values = (255 - values if is_inverted else values) * contrast
    values += level * 255 * (1 - contrast)
    noise = min(noise, 60 * contrast)
    values += np.random.default_rng(seed).normal(0, noise, values.shape) if noise else 0
    assert read(as_pixels(values)) == number


@settings(max_examples=60)
@given(NUMBER, st.permutations([0, 1, 2]), st.tuples(*[st.floats(-1, 1)] * 3))
def test_number_survives_other_colours(number, order, gains):
    """Each channel may be turned over and weakened, as long as one is left."""
    gains = np.array(gains)
    gains[np.argmax(np.abs(gains))] = 0.5
    values = 128 + (stamped(number).astype(np.float64)[..., order] - 128) * gains
    assert read(as_pixels(values)) == number


def test_number_survives_being_shrunk_and_enlarged_again():
    for number in range(0, NUMBERS, 97):
        small = cv2.resize(stamped(number), (144, 96), interpolation=cv2.INTER_AREA)
        assert read(cv2.resize(small, (192, 128))) == number


# What is no number


@pytest.mark.parametrize("flips", [1, 2, 3])
def test_checksum_finds_every_one_to_three_wrong_bits(flips):
    for number in (0, 1, 0b101010101010, NUMBERS - 1):
        bits = code(number)
        assert number_of(bits) == number
        for places in combinations(range(len(bits)), flips):
            wrong = bits.copy()
            wrong[list(places)] ^= True
            assert number_of(wrong) is None


@given(NUMBER, st.lists(st.integers(0, 19), min_size=1, max_size=20, unique=True))
def test_of_wrong_bits_only_another_whole_code_is_a_number(number, places):
    wrong = code(number)
    wrong[places] ^= True
    found = number_of(wrong)
    assert found != number
    assert found is None or (code(found) == wrong).all()


def test_block_with_a_wrong_bit_makes_the_picture_unreadable():
    picture = stamped(77)
    picture[16:32, :32] = picture[16:32, 31::-1]  # a pair turned round
    assert read(picture) is None


def test_known_pair_that_is_turned_round_makes_the_picture_unreadable():
    picture = stamped(77)
    picture[:16, :32] = picture[:16, 31::-1]
    assert read(picture) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_plain_picture_holds_no_number(level):
    assert read(np.full((128, 192, 3), level, np.uint8)) is None


def test_hidden_block_is_no_bit():
    picture = stamped(77)
    picture[16:32, :32] = 200
    assert read(picture) is None


def test_noise_is_hardly_ever_a_number():
    noise = np.random.default_rng(3)
    found = [read(noise.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)) for _ in range(3000)]
    assert sum(number is not None for number in found) <= 3


def test_half_of_one_number_and_half_of_another_is_none():
    wrong = 0
    for number in range(0, NUMBERS - 1, 41):
        picture = stamped(number)
        picture[48:] = stamped(number * 3 % NUMBERS)[48:]
        found = read(picture)
        wrong += found not in (None, number, number * 3 % NUMBERS)
    assert wrong <= 2  # 1 in 256 of what differs
