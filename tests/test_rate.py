"""The rate of a count: of late, not since the start."""

from __future__ import annotations

import pytest

from lsd.pipeline.rate import Rate


def test_what_lies_behind_the_window_is_forgotten():
    rate = Rate(window_s=2.0)
    told = [rate.of(min(count, 100), count / 25) for count in range(0, 200, 5)]
    assert told[0] == 0.0
    assert told[1:21] == pytest.approx([25.0] * 20)
    assert told[-1] == 0.0, "it stands still since four seconds"
    assert told == sorted(told[:2]) + sorted(told[2:], reverse=True), "no step back up"


def test_the_readings_of_a_long_run_are_not_all_kept():
    rate = Rate(window_s=1.0)
    for number in range(1000):
        assert rate.of(number, number / 10) == (0.0 if number == 0 else 10.0)
    assert len(rate._readings) <= 11


def test_two_readings_at_one_time_are_no_rate():
    rate = Rate()
    assert [rate.of(5, 1.0), rate.of(9, 1.0)] == [0.0, 0.0]
