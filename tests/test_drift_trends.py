"""What becomes of a figure over time: exact values of what can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.lab.drift import metrics, trends
from lsd.lab.drift.metrics import Array

NAN = np.nan


def sparse(values: np.ndarray, every: int) -> np.ndarray:
    """Keep every n-th value, as a run that is not measured on each frame has it."""
    return np.where(np.arange(len(values)) % every == 0, values, NAN)


def test_early_and_late_are_frames_26_to_75_and_the_last_tenth() -> None:
    numbers = np.arange(1, 2_001)
    assert numbers[trends.EARLY][[0, -1]].tolist() == [26, 75]
    assert numbers[trends.late(2_000)][[0, -1]].tolist() == [1_801, 2_000]


def test_mean_and_ratio_leave_out_what_was_not_measured() -> None:
    assert trends.mean(np.array([1, NAN, 3])) == 2
    assert np.isnan(trends.mean(np.array([NAN])))
    assert trends.ratio(np.array([2, NAN, 4, 9]), np.array([1, 5, 3, NAN])) == 1.5
    assert np.isnan(trends.ratio(np.array([1.0]), np.array([0.0])))


def test_lowest_median_finds_the_worst_50_frames() -> None:
    values = np.ones(500)
    values[200:260] = 0.3
    assert trends.lowest_median(sparse(values, 5)) == 0.3
    values[200:237] = 1  # less than half of any 50 frames is low now
    assert trends.lowest_median(values) == 1


def test_distance_is_the_length_of_the_mean_change() -> None:
    shift = [np.r_[np.zeros(10), np.full(10, by)] for by in (0.03, 0.0, -0.04)]
    assert trends.distance(shift, slice(10, 20)) == pytest.approx(0.05)
    assert trends.distance(shift, slice(10, 20), slice(0, 10)) == pytest.approx(0.05)
    assert trends.distance(shift, slice(10, 20), slice(10, 20)) == 0


def test_contrast_weighs_the_chunks_by_how_early_they_are() -> None:
    steps = np.repeat([1.0, 1.1, 0.8, *[1.0] * 7], 100)
    assert trends.contrast(trends.ratios(steps)) == pytest.approx((9 * 0.1 + 8 * 0.2) / 55)
    r = trends.ratios(sparse(3 * steps, 5), np.full(1_000, 3.0))
    assert trends.contrast(r) == pytest.approx(2.5 / 55)
    assert trends.contrast(np.array([2.0, 2.0, 3.0])) == pytest.approx(0.5 / 6)


@given(st.floats(0.01, 100))
def test_contrast_of_a_steady_ratio_is_none(scale: float) -> None:
    content = 1 + np.sin(np.arange(400.0)) ** 2
    assert trends.contrast(trends.ratios(scale * content, content)) == pytest.approx(0, abs=1e-9)


def test_lap_means_leave_a_started_lap_out() -> None:
    found = trends.lap_means(np.array([1, 3, NAN, 5, NAN, NAN, 7]), 2)
    assert found[:2].tolist() == [2, 5]
    assert np.isnan(found[2])
    assert len(found) == 3


def test_slope_of_a_line_is_exact() -> None:
    line = sparse(40 - 0.0007 * np.arange(2_000), 5)
    assert trends.slope(line, 250) == pytest.approx((-7, -7, -7))


def test_slope_does_not_see_what_the_input_repeats() -> None:
    content = 5 * np.sin(2 * np.pi * np.arange(2_100) / 250)
    found = trends.slope(sparse(content + 0.0001 * np.arange(2_100), 5), 250)
    assert found == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("laps", [5, 30])
def test_interval_of_a_slope_holds_the_truth_about_as_often_as_it_says(laps: int) -> None:
    held = 0
    for seed in range(40):
        uneven = np.repeat(np.random.default_rng(seed).standard_normal(laps), 250)
        found = trends.slope(sparse(uneven, 50), 250)
        held += found.low <= 0 <= found.high
    assert 34 <= held <= 40


def test_slope_of_two_periods_is_found_and_not_known() -> None:
    found = trends.slope(sparse(np.arange(500.0), 25), 250)
    assert found == (pytest.approx(10_000), -np.inf, np.inf)


def test_slope_needs_a_place_that_was_measured_twice() -> None:
    assert np.isnan(trends.slope(np.arange(250.0), 250).value)
    assert np.isnan(trends.slope(np.full(1_000, NAN), 250).value)


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(0.2, 3, 0.2), (-3, -0.4, -0.4), (-1, 5, 0), (NAN, NAN, NAN)]
)
def test_slope_that_is_shown_is_the_end_of_the_interval_nearer_to_none(
    low: float, high: float, shown: float
) -> None:
    assert trends.Slope(0, low, high).shown == pytest.approx(shown, nan_ok=True)


@given(st.floats(0.3, 0.99), st.floats(0.5, 2))
def test_loop_gain_of_a_geometric_decay_is_its_ratio(gain: float, size: float) -> None:
    d = gain ** np.arange(31.0)
    assert trends.loop_gain(d, size * d) == pytest.approx(gain, rel=1e-6)


def test_loop_gain_looks_at_what_is_above_the_floor_only() -> None:
    d = np.maximum(0.5 ** np.arange(31.0), 0.01)
    assert trends.loop_gain(d, 0.3 * d) == pytest.approx(0.5)


def test_loop_gain_does_not_count_what_the_first_frame_takes_away() -> None:
    d = np.r_[1.0, 0.2 * 0.8 ** np.arange(30.0)]
    assert trends.loop_gain(d, d) == pytest.approx(0.8)


def test_shock_that_is_gone_at_once_has_no_gain() -> None:
    assert trends.loop_gain(np.r_[1.0, np.zeros(30)], np.zeros(31)) == 0


def test_loop_gain_of_twins_that_were_lost_is_not_known() -> None:
    d = np.r_[1.0, np.full(30, NAN)]
    assert np.isnan(trends.loop_gain(d, d))


def test_time_to_is_when_it_is_reached_for_good() -> None:
    assert trends.time_to(np.array([True, True])) == 0
    assert trends.time_to(np.array([False, True, False, True, True])) == 3
    assert trends.time_to(np.array([True, False])) == np.inf


@given(st.integers(-8, 8))
def test_lag_is_that_of_the_motion(lag: int) -> None:
    motion = np.random.default_rng(2).random(300)
    assert trends.motion_lag(0.5 * np.roll(motion, lag) + 0.1, motion) == lag


def test_motion_that_repeats_follows_itself_by_nothing() -> None:
    motion = np.tile([1.0, 2.0, 4.0, 3.0], 50)
    assert trends.motion_lag(motion, motion) == 0


def test_frozen_stream_has_no_lag() -> None:
    motion = np.r_[NAN, np.random.default_rng(2).random(99)]
    assert np.isnan(trends.motion_lag(np.r_[NAN, np.zeros(99)], motion))
    assert trends.motion_ratio(np.r_[NAN, np.zeros(99)], motion) == 0


def test_motion_ratio_is_that_of_the_sums_from_frame_2_on() -> None:
    assert trends.motion_ratio(np.array([NAN, 1, 2]), np.array([NAN, 4, 2])) == 0.5
    assert np.isnan(trends.motion_ratio(np.array([NAN, 1]), np.array([NAN, 0])))


def test_return_is_counted_from_each_event_to_its_own_level() -> None:
    psnr = np.r_[np.full(50, 30.0), 10, 15, np.full(48, 20.0), np.full(4, 10.0), np.full(56, 25.0)]
    events = np.isin(np.arange(len(psnr)), [50, 100, 155])
    # the last event has too little behind it to settle
    assert trends.returns(psnr, events).tolist() == [2, 4]


def test_return_that_does_not_happen_is_infinite() -> None:
    psnr = np.r_[np.full(45, 10.0), np.full(55, 25.0)]
    assert trends.returns(psnr, np.arange(100) == 0).tolist() == [np.inf]


def test_spread_is_the_standard_deviation_over_streams() -> None:
    means = np.zeros((2, 3, 10))
    means[1, 0] = 2.0
    assert trends.spread(means, slice(0, 10)) == pytest.approx([np.sqrt(2), 0, 0])


def test_bound_of_the_spread_lies_above_it() -> None:
    means = np.random.default_rng(1).standard_normal((8, 3, 10))
    window = slice(0, 10)
    assert (trends.spread_bound(means, window) > trends.spread(means, window)).all()


def twins_of(
    gain: float, noise: float, ghost: float = 0.0, period: int = 1
) -> tuple[Array, Array, Array]:
    """Return what `recovery` sees of e_k = gain e_{k-1} + noise, beside a ghost that stays.

    Args:
        gain: of the loop.
        noise: RMS of the roundings.
        ghost: RMS of what stays; it moves on and is back after `period` frames.
        period: 1: it stands still.
    """
    random = np.random.default_rng(3)
    stays = random.standard_normal((8, 8, 3)).astype(np.float32).repeat(8, 0).repeat(8, 1)
    error = random.standard_normal((64, 64, 3)).astype(np.float32) * 0.2
    errors = [error]
    for k in range(30):
        fresh = random.standard_normal(error.shape).astype(np.float32) * np.float32(noise)
        error = np.float32(gain) * error + fresh
        errors.append(error + np.roll(stays, 16 * (k % period), 0) * np.float32(ghost))
    rms = np.array([float(np.sqrt(np.mean(each**2))) for each in errors])
    carried, kept = np.full((2, 31), np.nan)
    for k in range(2, 31):
        carried[k] = metrics.carried(errors[k], errors[k - 1], None)
    for k in range(trends.KEPT + 1, 31):
        kept[k] = metrics.kept(errors[k], errors[k - trends.KEPT], None)
    return rms, carried, kept


@pytest.mark.parametrize("gain", [0.0, 0.3, 0.6, 0.85])
def test_rounding_noise_is_taken_out_of_the_distance_of_twins(gain: float) -> None:
    rms, carried, kept = twins_of(gain, noise=3 / 255)
    left, at_floor = trends.without_noise(rms, carried, kept)
    assert at_floor == pytest.approx(gain, abs=0.04), "the gain shows in what is carried on"
    if gain:
        assert trends.loop_gain(left / rms[0], left) == pytest.approx(gain, abs=0.06)


def test_a_line_fitted_down_to_the_floor_would_measure_that() -> None:
    rms, carried, kept = twins_of(0.3, noise=3 / 255)
    left, _ = trends.without_noise(rms, carried, kept)
    assert trends.loop_gain(rms / rms[0], rms) > 0.75
    assert trends.loop_gain(left / rms[0], left) < 0.4


@pytest.mark.parametrize("ghost", [3, 5, 20])
@pytest.mark.parametrize("noise", [0.0, 2, 3])
@pytest.mark.parametrize("period", [1, 2, 3, 4])
def test_a_ghost_that_stays_is_a_gain_of_nearly_one_beside_whatever_noise(
    ghost: float, noise: float, period: int
) -> None:
    _, at_floor = trends.without_noise(*twins_of(0.3, noise / 255, ghost / 255, period))
    assert 0.92 < at_floor <= 1.001


def test_what_stays_is_not_taken_out() -> None:
    rms, carried, kept = twins_of(0.3, 3 / 255, 5 / 255)
    left, _ = trends.without_noise(rms, carried, kept)
    assert np.median(left[20:]) == pytest.approx(5 / 255, rel=0.15)


def test_twins_that_come_together_are_taken_as_they_are() -> None:
    rms = 0.2 * 0.5 ** np.arange(31.0)
    assert trends.without_noise(rms, *np.full((2, 31), 0.99)) == (pytest.approx(rms), 0.0)


def test_a_floor_of_which_nothing_is_known_is_not_taken_out() -> None:
    rms = np.hypot(0.2 * 0.6 ** np.arange(31.0), 1.8 / 255)
    left, at_floor = trends.without_noise(rms, *np.full((2, 31), np.nan))
    assert left is rms
    assert at_floor == 0.0
