"""What is measured of pictures: known values, ranges, what changes it and what does not."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lsd.lab.drift import metrics

Array = NDArray[Any]
SIDE = 32
STILL = np.zeros((SIDE, SIDE, 2), np.float32)
SEEN = np.ones((SIDE, SIDE), np.bool_)

seeds = st.integers(0, 10_000)


def random_picture(seed: int, side: int = SIDE) -> Array:
    """Blobs, with a little noise: neither flat nor white noise, in [0, 1]."""
    random = np.random.default_rng(seed)
    coarse = random.random((5, 5, 3), np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + 0.05 * random.standard_normal(smooth.shape, np.float32), 0, 1)


def flat(*colour: float) -> Array:
    return np.broadcast_to(np.float32(colour), (SIDE, SIDE, 3)).copy()


def grating(frequency: float, side: int = 64) -> Array:
    """A sine of so many cycles a pixel, from left to right."""
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * frequency * np.arange(side))
    return np.broadcast_to(np.float32(wave)[None, :, None], (side, side, 3)).copy()


@given(seeds)
def test_equal_pictures_are_as_like_as_can_be(seed: int) -> None:
    y = random_picture(seed)
    found = metrics.figures(y, y, y)
    assert found["psnr_ys"] == found["psnr_yx"] == found["psnr_sx"] == 60
    assert found["ssim_ys"] == pytest.approx(1, abs=1e-6)
    assert found["shift_l"] == found["shift_a"] == found["shift_b"] == 0
    for name in ("entropy", "detail", "saturation", "lightness", "high"):
        assert found[f"{name}_y"] == found[f"{name}_s"]
    assert metrics.colour_distance(y, y) == 0
    assert metrics.histogram_distance(y, y) == 0
    assert metrics.spectrum_distance(y, y) == 0


@given(seeds, seeds)
def test_figures_lie_in_their_ranges(first: int, second: int) -> None:
    y, s = random_picture(first), random_picture(second)
    found = metrics.figures(y, s, s)
    assert all(np.isfinite(value) for value in found.values())
    assert 0 <= found["entropy_y"] <= 9
    assert 0 <= found["high_y"] <= 1
    assert 0 <= found["lightness_y"] <= 1
    assert 0 <= found["saturation_y"] <= 0.33
    assert 0 <= found["detail_y"] <= 16
    assert 0 <= found["variance_y"] <= 0.25
    assert 0 <= found["colour_std_y"] <= 0.5
    assert 0 <= found["psnr_ys"] <= 60
    assert -1 <= found["ssim_ys"] <= 1
    assert 0 <= metrics.histogram_distance(y, s) <= 1


@given(seeds, seeds)
def test_distances_are_symmetric(first: int, second: int) -> None:
    a, b = random_picture(first), random_picture(second)
    for measure in (
        metrics.psnr,
        metrics.ssim,
        metrics.colour_distance,
        metrics.histogram_distance,
        metrics.spectrum_distance,
    ):
        assert measure(a, b) == pytest.approx(measure(b, a), rel=1e-5)


@given(seeds)
def test_mirrored_picture_has_equal_figures(seed: int) -> None:
    y = random_picture(seed)
    plain, mirrored = metrics.figures(y), metrics.figures(np.ascontiguousarray(y[:, ::-1]))
    assert mirrored == pytest.approx(plain, rel=1e-3)


@given(seeds, st.floats(-0.2, 0.2))
def test_brightness_is_no_detail(seed: int, by: float) -> None:
    y = 0.3 + 0.4 * random_picture(seed)
    brighter = y + np.float32(by)
    for measure in (metrics.laplacian_energy, metrics.high_share):
        assert measure(brighter) == pytest.approx(measure(y), rel=1e-3)
    assert metrics.spectrum_distance(brighter, y) < 0.01


@given(seeds)
def test_blur_takes_detail_and_high_frequencies(seed: int) -> None:
    y = random_picture(seed)
    blurred = cv2.GaussianBlur(y, (0, 0), 1.0)
    assert metrics.laplacian_energy(blurred) < 0.5 * metrics.laplacian_energy(y)
    assert metrics.high_share(blurred) < metrics.high_share(y)
    assert metrics.spectrum_distance(blurred, y) > 1


@given(seeds)
def test_washed_out_picture_has_fewer_colours(seed: int) -> None:
    y = random_picture(seed)
    found, washed = metrics.figures(y), metrics.figures(0.4 * y + np.float32(0.6 * 0.8))
    for name in ("entropy_y", "saturation_y", "detail_y", "colour_std_y"):
        assert washed[name] < found[name]


@pytest.mark.parametrize("name", ["y", "s", "x"])
def test_picture_that_is_not_finite_measures_as_a_black_one(name: str) -> None:
    pictures = {"y": random_picture(1), "s": random_picture(2), "x": random_picture(3)}
    lost, black = (pictures | {name: flat(value, value, value)} for value in (np.nan, 0))
    # the last digits depend on where in memory a picture lies
    assert metrics.figures(**lost) == pytest.approx(metrics.figures(**black), rel=1e-6)


def test_a_place_seen_early_is_measured_as_the_output_is() -> None:
    y, s = random_picture(1), random_picture(2)
    found, meant = metrics.early(y, s), metrics.figures(y, s)
    for name in ("entropy", "lightness", "saturation", "detail", "high"):
        assert found[f"{name}_early"] == pytest.approx(meant[f"{name}_y"], rel=1e-6)
    for name in ("entropy", "lightness", "saturation", "detail"):
        assert found[f"{name}_early_s"] == pytest.approx(meant[f"{name}_s"], rel=1e-6)
    for axis in "lab":
        assert found[f"early_{axis}"] == pytest.approx(meant[f"shift_{axis}"], abs=1e-6)


def test_figures_without_teacher_or_input_are_those_of_the_output() -> None:
    y = random_picture(1)
    alone, whole = metrics.figures(y), metrics.figures(y, y, y)
    assert {name: whole[name] for name in alone} == pytest.approx(alone, rel=1e-6)
    assert all(name.endswith("_y") for name in alone)


# the reference values of https://bottosson.github.io/posts/oklab
@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((1, 1, 1), (1.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((1, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 1, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 1), (0.45201, -0.03246, -0.31153)),
        ((0.5, 0.5, 0.5), (0.59818, 0.0, 0.0)),
        ((0.02, 0.02, 0.02), (0.11565, 0.0, 0.0)),
    ],
)
def test_oklab_of_known_colours(colour: Any, lab: Any) -> None:
    assert metrics.oklab(flat(*colour))[0, 0] == pytest.approx(lab, abs=2e-4)


def test_shift_of_colour_is_that_of_the_means_in_oklab() -> None:
    found = metrics.figures(flat(1, 0, 0), flat(0, 0, 1))
    shift = [found[f"shift_{axis}"] for axis in "lab"]
    assert shift == pytest.approx([0.17595, 0.25732, 0.43738], abs=2e-4)
    assert metrics.colour_distance(flat(1, 0, 0), flat(0, 0, 1)) == pytest.approx(0.5371, abs=1e-3)


def test_saturation_of_grey_is_none() -> None:
    assert metrics.figures(flat(0.3, 0.3, 0.3))["saturation_y"] == pytest.approx(0, abs=1e-4)
    assert metrics.figures(flat(1, 0, 0))["saturation_y"] == pytest.approx(0.25768, abs=2e-4)


def test_entropy_of_known_histograms() -> None:
    assert metrics.entropy(flat(0.2, 0.9, 0.4)) == 0
    halves = flat(0, 0, 0)
    halves[: SIDE // 2] = 1
    assert metrics.entropy(halves) == pytest.approx(1)
    quarters = flat(0, 0, 0)
    quarters[: SIDE // 4] = (1, 0, 0)
    assert metrics.entropy(quarters) == pytest.approx(0.8112781)
    cells = np.stack(np.meshgrid(*[(np.arange(8) + 0.5) / 8] * 3), -1).astype(np.float32)
    assert metrics.entropy(cells.reshape(16, 32, 3)) == pytest.approx(9)


def test_histograms_without_a_common_colour_are_at_the_greatest_distance() -> None:
    assert metrics.histogram_distance(flat(0, 0, 0), flat(1, 1, 1)) == 1
    half = flat(0, 0, 0)
    half[: SIDE // 2] = 1
    assert metrics.histogram_distance(flat(0, 0, 0), half) == pytest.approx(0.5)


def test_psnr_of_known_differences() -> None:
    y = flat(0.5, 0.5, 0.5)
    assert metrics.psnr(y, y + np.float32(0.1)) == pytest.approx(20, abs=1e-3)
    assert metrics.psnr(flat(0, 0, 0), flat(1, 1, 1)) == pytest.approx(0, abs=1e-6)
    assert metrics.psnr(y, y + np.float32(1e-4)) == 60


def test_psnr_of_laps_is_that_of_the_pixels() -> None:
    a = np.full((8, 8, 3), 100, np.uint8)
    assert metrics.lap_psnr(a, a) == 60
    assert metrics.lap_psnr(a, a + np.uint8(1)) == pytest.approx(48.1308, abs=1e-3)
    assert metrics.lap_psnr(np.zeros_like(a), np.full_like(a, 255)) == pytest.approx(0, abs=1e-6)


def test_ssim_of_flat_pictures_follows_the_formula() -> None:
    found = metrics.ssim(flat(0.2, 0.2, 0.2), flat(0.8, 0.8, 0.8))
    assert found == pytest.approx((2 * 0.2 * 0.8 + 1e-4) / (0.04 + 0.64 + 1e-4), abs=1e-4)


def test_ssim_of_an_inverted_picture_is_negative() -> None:
    noise = np.random.default_rng(1).random((SIDE, SIDE, 1), np.float32)
    y = np.repeat(noise, 3, axis=2)
    assert metrics.ssim(y, 1 - y) < -0.8


def test_laplacian_of_a_checkerboard_follows_the_formula() -> None:
    board = np.float32(np.indices((SIDE, SIDE)).sum(0) % 2)[..., None].repeat(3, axis=2)
    # |4 - 0| at every place but those at the border, which see themselves once or twice
    inner, edge, corner = (SIDE - 2) ** 2 * 16, 4 * (SIDE - 2) * 9, 4 * 4
    expected = (inner + edge + corner) / SIDE**2
    assert metrics.laplacian_energy(board) == pytest.approx(expected, rel=1e-4)
    assert metrics.laplacian_energy(flat(0.3, 0.6, 0.9)) == 0


def test_gradient_of_a_ramp_is_its_slope() -> None:
    ramp = np.float32(np.arange(64) / 100)[None, :, None].repeat(64, 0).repeat(3, 2)
    # the reflected border has none: 62 of 64 columns count
    assert metrics.figures(ramp)["gradient_y"] == pytest.approx(0.01 * 62 / 64, rel=1e-3)


def test_variance_and_colour_std_of_halves() -> None:
    halves = flat(0, 0, 0)
    halves[: SIDE // 2] = 1
    found = metrics.figures(halves)
    assert found["variance_y"] == pytest.approx(0.25)
    assert found["colour_std_y"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("frequency", "share"), [(1 / 16, 0.0), (3 / 32, 0.0), (5 / 32, 1.0), (3 / 8, 1.0)]
)
def test_high_frequencies_begin_at_a_quarter_of_nyquist(frequency: float, share: float) -> None:
    assert metrics.high_share(grating(frequency)) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("octave", [0, 1, 2, 3])
def test_energy_falls_into_its_octave(octave: int) -> None:
    energy = metrics.octave_energy(grating(0.375 / 2**octave, 256))
    assert energy.argmax() == octave
    assert energy.sum() == pytest.approx(0.4**2 / 2, rel=0.05)


def test_flat_picture_has_no_high_frequencies() -> None:
    assert metrics.high_share(flat(0.4, 0.1, 0.7)) < 1e-6


def test_doubled_contrast_is_6_db_in_every_octave() -> None:
    y = np.random.default_rng(1).normal(0.5, 0.1, (64, 64, 3)).astype(np.float32)
    assert metrics.spectrum_distance(2 * y - 0.5, y) == pytest.approx(6.02, abs=0.05)


def test_texture_of_another_seed_has_the_same_spectrum() -> None:
    first, second = (
        np.random.default_rng(seed).normal(0.5, 0.1, (256, 256, 3)).astype(np.float32)
        for seed in (1, 2)
    )
    assert metrics.psnr(first, second) < 18
    assert metrics.spectrum_distance(first, second) < 0.5


def test_difference_that_8_bits_cannot_show_is_no_distance_of_spectra() -> None:
    fine = flat(0.5, 0.5, 0.5) + np.float32(1e-4) * random_picture(1)
    assert metrics.spectrum_distance(fine, flat(0.5, 0.5, 0.5)) < 0.05


@given(seeds, st.sampled_from([2, 4, 8]))
def test_blocks_are_means(seed: int, side: int) -> None:
    y = random_picture(seed)
    by_hand = y.reshape(SIDE // side, side, SIDE // side, side, 3).mean(axis=(1, 3))
    assert metrics.block_means(y, side) == pytest.approx(by_hand, abs=1e-5)


def test_blocks_leave_a_rest_out() -> None:
    assert metrics.block_means(np.ones((17, 26, 3), np.float32), 8).shape == (2, 3, 3)


@given(seeds, st.integers(-6, 6), st.integers(-6, 6))
def test_what_moves_along_has_no_warp_error(seed: int, dx: int, dy: int) -> None:
    before = random_picture(seed)
    y = np.roll(before, (dy, dx), axis=(0, 1))
    visible = np.zeros_like(SEEN)
    visible[8:-8, 8:-8] = True
    flow = STILL + np.float32([-dx, -dy])
    assert metrics.warp_error(y, before, flow, visible) == pytest.approx(0, abs=1e-6)


def test_warp_error_of_a_step_is_its_height() -> None:
    assert metrics.warp_error(flat(0.5, 0.5, 0.5), flat(0.4, 0.4, 0.4), STILL, SEEN) == (
        pytest.approx(0.1, abs=1e-6)
    )


def test_warp_error_leaves_out_what_was_hidden() -> None:
    before, y, visible = flat(0.5, 0.5, 0.5), flat(0.5, 0.5, 0.5), SEEN.copy()
    y[:9] = 1  # blocks 0 to 2, the last of them in part
    visible[:9] = False
    assert metrics.warp_error(y, before, STILL, visible) == 0
    assert np.isnan(metrics.warp_error(y, before, STILL, np.zeros_like(SEEN)))


def test_warp_error_does_not_see_noise_of_single_pixels() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (2, SIDE, SIDE, 3)).astype(np.float32)
    found = metrics.warp_error(noise[0], noise[1], STILL, SEEN)
    # 16 pixels a block: a quarter of their mean difference .1 * 2 / sqrt(pi)
    assert found == pytest.approx(0.1 * 2 / np.sqrt(np.pi) / 4, rel=0.1)


@given(seeds, seeds)
def test_output_that_is_the_teacher_has_no_temporal_excess(first: int, second: int) -> None:
    s, before = random_picture(first), random_picture(second)
    found = metrics.temporal(s, before, s, before, STILL, SEEN)
    assert found["e4_y"] - found["e4_s"] == 0


def test_warp_error_alone_calls_a_collapsed_stream_perfect() -> None:
    s, before = random_picture(1), random_picture(2)
    grey = flat(0.5, 0.5, 0.5)
    found = metrics.temporal(grey, grey, s, before, STILL, SEEN)
    assert found["e4_y"] == 0 < found["e4_s"]
    assert metrics.figures(grey, s)["entropy_y"] == 0


@pytest.mark.parametrize("gain", [0.0, 0.4, 1.0])
def test_what_is_carried_from_frame_to_frame_is_the_gain_along_the_motion(gain: float) -> None:
    before, fresh = np.random.default_rng(1).normal(0, 0.1, (2, 64, 64, 3)).astype(np.float32)
    flow = np.zeros((64, 64, 2), np.float32)
    flow[..., 0] = 3  # what is at x now was at x + 3
    moved = np.concatenate([before[:, 3:], np.repeat(before[:, -1:], 3, 1)], 1)
    error = np.float32(gain) * moved + fresh
    assert metrics.carried(error, before, flow) == pytest.approx(gain, abs=0.03)
    assert metrics.carried(error, before, None) == pytest.approx(0, abs=0.03), "it has moved"
    assert metrics.carried(error, before, flow, block=8) == pytest.approx(gain, abs=0.2)


def test_nothing_is_carried_from_twins_that_were_one_or_are_lost() -> None:
    error = flat(0.1, 0.1, 0.1)
    assert np.isnan(metrics.carried(error, np.zeros_like(error), None))
    assert np.isnan(metrics.carried(error * np.float32("nan"), error, None))
