"""The gates of twins and of seeds: shocks, loop gain, perturbation, random walk."""

from __future__ import annotations

import numpy as np
import pytest
from drift_streams import failed, gate, grown, metrics_of, shocked, walks

from lsd.lab.drift.gates import judge


def test_random_walk_trips_its_gate() -> None:
    assert failed(judge(walks(1e-3))) == {"random walk"}


def test_limit_of_the_random_walk_is_lap_2s_spread_and_half_again() -> None:
    records = walks(0.0)
    start = [255 * np.std([r.series[c][0] for r in records], ddof=1) for c in "rgb"]
    # the tightest is where the spread is the smallest: half of it is the least room
    found = gate(judge(records), "random walk")
    assert found.value == pytest.approx(min(start))
    assert float(found.limit.split()[1]) == pytest.approx(1.5 * min(start) + 0.5, rel=0.01)


def test_recovery_of_a_textured_style_needs_equal_spectra() -> None:
    record = shocked(style="brush")
    assert judge([record]).passed
    record.curves["blur:spectrum"] = np.full(31, 3.0)
    assert failed(judge([record])) == {"recovery: spectrum"}


def test_slow_recovery_fails_by_the_name_of_the_shock() -> None:
    record = shocked()
    record.curves["red"] = np.linspace(1, 0.2, 31)
    record.curves["red:rms"] = 0.5 * record.curves["red"]
    verdict = judge([record])
    assert failed(verdict) == {"recovery: red", "loop gain"}
    assert gate(verdict, "recovery: red").value == np.inf
    assert gate(verdict, "loop gain").note == "after red"


def test_stream_that_leaves_again_has_not_recovered() -> None:
    record = shocked()
    record.curves["salt"] = np.r_[record.curves["salt"][:25], np.full(6, 0.5)]
    record.curves["salt:rms"] = 0.5 * record.curves["salt"]
    assert failed(judge([record])) == {"recovery: salt"}


def test_small_shock_has_recovered_where_nobody_sees_it() -> None:
    record = shocked()
    record.curves["blur"] = np.full(31, 0.9)
    record.curves["blur:rms"] = np.full(31, 0.9 / 255)
    assert judge([record]).passed


@pytest.mark.parametrize(("decibels", "passed"), [(29.9, False), (30.1, True), (np.nan, False)])
def test_shock_without_a_size_must_be_30_db_away(decibels: float, passed: bool) -> None:
    record = shocked()
    record.curves["nan:rms"] = np.r_[np.nan, np.full(30, 10 ** (-decibels / 20))]
    assert gate(judge([record]), "recovery: nan").passed is passed


def test_twin_that_is_lost_after_a_finite_shock_fails() -> None:
    record = shocked()
    for end in ("", ":rms"):
        record.curves[f"cast{end}"] = np.r_[1.0, np.full(30, np.nan)]
    assert failed(judge([record])) == {"recovery: cast", "loop gain"}


@pytest.mark.parametrize(("value", "passed"), [(0.9, True), (0.91, False)])
def test_loop_gain_is_held_to_its_limit(value: float, passed: bool) -> None:
    found = gate(judge([shocked(value - 1e-9)]), "loop gain")
    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.passed is passed


@pytest.mark.parametrize(
    ("carried", "kept", "gain"), [(0.33, 0.01, None), (0.95, 0.6, 0.958), (0.5, 0.5, 0.944)]
)
def test_twins_that_stay_apart_are_judged_by_what_carries_that_on(
    carried: float, kept: float, gain: float | None
) -> None:
    """What `ink` does in int8 after salt, in grey levels, and what a ghost would do."""
    record = shocked()
    levels = np.r_[30.9, 5.25, 2.8, 2.16, np.full(27, 1.85)]
    record.curves["salt"], record.curves["salt:rms"] = levels / levels[0], levels / 255
    record.curves |= {"salt:carried": np.full(31, carried), "salt:kept": np.full(31, kept)}
    found = gate(judge([record]), "loop gain")
    assert found.passed is (gain is None)
    if gain is not None:
        assert (found.value, found.note) == (pytest.approx(gain, abs=1e-3), "after salt")


def test_perturbation_must_shrink() -> None:
    assert not judge([grown(0.0)]).passed
    assert gate(judge([grown(-1e-6)]), "Lyapunov exponent").limit == "< 0"


def test_walk_of_one_seed_or_two_laps_is_not_judged() -> None:
    assert metrics_of(judge(walks(0.0)[:1])) == set()
    assert metrics_of(judge(walks(0.0, frames=700))) == set()
