from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import WINDOW, CostModel, Rung, p90, rungs_for, useful

MS = 1_000_000
sides = st.integers(4, 64).map(lambda n: 16 * n)


def shown(rungs):
    return [str(rung) for rung in rungs]


def test_ladder_takes_steps_first_then_size_then_the_last_output():
    assert shown(rungs_for(Size(384, 384), 3)) == [
        "384x384, 3 steps", "384x384, 2 steps", "384x384, 1 step", "320x320, 1 step",
        "288x288, 1 step", "256x256, 1 step", "192x192, 1 step", "reuse",
    ]  # fmt: skip


def test_ladder_without_reuse_ends_at_the_smallest_picture():
    assert shown(rungs_for(Size(384, 384), 1, with_reuse=False))[-1] == "192x192, 1 step"


def test_smallest_picture_has_no_smaller_rung():
    assert shown(rungs_for(Size(64, 64), 1)) == ["64x64, 1 step", "reuse"]


def test_quality_is_what_was_measured_and_falls_from_one():
    qualities = [rung.quality for rung in rungs_for(Size(384, 384), 2)[:-1]]
    assert qualities == pytest.approx([1, 0.997, 0.9192, 0.8534, 0.7667, 0.5573], abs=1e-3)


@given(sides, sides, st.integers(1, 8))
def test_every_derived_ladder_falls_in_work_and_quality_on_sides_that_networks_take(w, h, steps):
    ladder = rungs_for(Size(w, h), steps)
    assert ladder[0] == Rung(steps, Size(w, h), 1.0)
    assert all(side % 16 == 0 and side >= 64 for rung in ladder for side in rung.size)
    made = ladder[:-1]
    work = [(rung.size.width * rung.size.height, rung.steps) for rung in made]
    assert work == sorted(set(work), reverse=True)
    assert all(a.quality > b.quality > 0 for a, b in pairwise(made))
    assert [rung.is_reuse for rung in ladder] == [False] * len(made) + [True]


def test_rung_that_saves_nothing_is_left_out():
    rungs = rungs_for(Size(128, 128), 2)
    kept, costs = useful(rungs, [20, 16, 16, 17, 9, 8, 8])
    assert shown(kept) == ["128x128, 2 steps", "128x128, 1 step", "80x80, 1 step", "64x64, 1 step"]
    assert costs == (20, 16, 9, 8)


def test_p90_of_twenty_is_the_eighteenth():
    assert [p90(range(1, n + 1)) for n in (1, 2, 5, 9, 10, 11, 20)] == [1, 2, 5, 9, 9, 10, 18]


def test_before_the_first_frame_costs_are_the_calibrated():
    costs = CostModel([30 * MS, 10 * MS])
    assert (costs.predict(0), costs.predict(1), costs.change) == (30 * MS, 10 * MS, 1.0)


def test_rung_that_did_not_run_is_predicted_from_the_others_change():
    costs = CostModel([30 * MS, 20 * MS, 10 * MS])
    for _ in range(WINDOW):
        costs.observe(1, 30 * MS)
    assert [costs.predict(place) for place in range(3)] == [45 * MS, 30 * MS, 15 * MS]


def test_rung_that_ran_is_predicted_by_its_own_times():
    costs = CostModel([30 * MS, 10 * MS])
    for _ in range(10):
        costs.observe(0, 30 * MS)
        costs.observe(1, 11 * MS)
    assert (costs.predict(0), costs.predict(1)) == (30 * MS, 11 * MS)


def test_rung_is_predicted_by_its_own_times_from_the_fifth_on():
    costs = CostModel([30 * MS, 10 * MS])
    for n in range(1, 6):
        costs.observe(0, 30 * MS)
        costs.observe(1, 5 * MS)
        assert costs.predict(1) == (5 * MS if n == 5 else 10 * MS)


def test_two_slow_frames_of_twenty_leave_the_p90_and_a_third_moves_it():
    costs = CostModel([30 * MS, 10 * MS])
    for took in [30] * 17 + [33] * 2 + [30]:
        costs.observe(0, took * MS)
    assert costs.predict(0) == 30 * MS
    costs.observe(0, 33 * MS)
    assert costs.predict(0) == 33 * MS


def test_frame_out_of_all_proportion_is_expected_to_come_again_on_every_rung():
    costs = CostModel([30 * MS, 10 * MS])
    for _ in range(WINDOW):
        costs.observe(0, 30 * MS)
    costs.observe(0, 48 * MS)
    assert (costs.predict(0), costs.predict(1)) == (48 * MS, 16 * MS)
    costs.observe(0, 30 * MS)
    assert (costs.predict(0), costs.predict(1)) == (30 * MS, 10 * MS)


def test_frame_that_is_slow_as_noise_makes_them_changes_nothing():
    costs = CostModel([30 * MS, 10 * MS])
    for took in [30] * WINDOW + [34]:
        costs.observe(0, took * MS)
    assert costs.predict(0) == 30 * MS


def test_load_that_has_gone_is_forgotten_after_six_frames():
    costs = CostModel([30 * MS, 10 * MS])
    for took in [48] * WINDOW + [30] * 5:
        costs.observe(0, took * MS)
    assert (costs.predict(0), costs.change) == (48 * MS, 1.6)
    costs.observe(0, 30 * MS)
    assert (costs.predict(0), costs.change) == (30 * MS, 1.0)
    for took in [30, 40, 40]:  # p90 of nine, as nothing older counts
        costs.observe(0, took * MS)
    assert costs.predict(0) == 40 * MS


def test_load_that_has_gone_a_little_is_forgotten_with_the_window():
    costs = CostModel([30 * MS, 10 * MS])
    for took in [34] * WINDOW + [30] * 17:
        costs.observe(0, took * MS)
    assert costs.predict(0) == 34 * MS
    costs.observe(0, 30 * MS)
    assert costs.predict(0) == 30 * MS


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 10**9)), min_size=1, max_size=60))
def test_prediction_lies_between_the_best_and_the_worst_of_what_was_seen(seen):
    calibrated = (40 * MS, 20 * MS, 10 * MS)
    costs = CostModel(calibrated)
    for place, took in seen:
        costs.observe(place, took)
    ratios = [took / calibrated[place] for place, took in seen[-WINDOW:]]
    for place in range(3):
        assert min(ratios) - 1e-6 <= costs.predict(place) / calibrated[place] <= max(ratios) + 1e-6
