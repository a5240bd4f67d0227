"""Pacing: a file plays at its own speed, a fast source is thinned evenly."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.clock import ManualClock
from lsd.stages.sources.pacing import Decimator, Playback

MS = 1_000_000


def admitted(source_hz: float, rate_hz: float, seconds: float = 10.0) -> list[int]:
    decimator = Decimator(rate_hz)
    times = [round(i * 1e9 / source_hz) for i in range(round(seconds * source_hz))]
    return [time for time in times if decimator.admits(time)]


@pytest.mark.parametrize("source_hz", [24, 25, 12.5, 5])
def test_source_that_is_not_faster_passes_whole(source_hz: float) -> None:
    assert len(admitted(source_hz, 25)) == round(10 * source_hz)


@given(st.floats(25, 240), st.floats(10, 25))
def test_faster_source_is_thinned_to_the_rate(source_hz: float, rate_hz: float) -> None:
    assert len(admitted(source_hz, rate_hz)) == pytest.approx(10 * rate_hz, abs=2)


def test_thinned_pictures_are_evenly_spread() -> None:
    times = admitted(60, 25)
    gaps = [b - a for a, b in pairwise(times)]
    # 60 to 25: every second or third picture, never two in a row or three lost.
    assert {round(gap / 1e9 * 60) for gap in gaps} == {2, 3}


def test_jitter_of_a_source_at_the_rate_costs_nothing() -> None:
    decimator = Decimator(25)
    jitter = [0, 7, -7, 3, -8, 8, 0, -5]
    assert all(decimator.admits((40 * i + jitter[i % 8]) * MS) for i in range(200))


def test_pictures_after_a_gap_do_not_burst() -> None:
    decimator = Decimator(25)
    decimator.admits(0)
    late = [10_000 * MS + i * 5 * MS for i in range(16)]  # 80 ms worth, all at once
    assert sum(decimator.admits(time) for time in late) <= 3


def test_picture_is_held_until_it_is_due() -> None:
    clock = ManualClock(start_ns=1000 * MS)
    playback = Playback(clock, threading.Event())
    assert playback.wait(0) == 1000 * MS
    assert playback.wait(40 * MS) == 1040 * MS
    assert clock.now_ns() == 1040 * MS


def test_late_picture_goes_out_at_once() -> None:
    clock = ManualClock()
    playback = Playback(clock, threading.Event())
    playback.wait(0)
    clock.advance(100 * MS)
    assert playback.wait(40 * MS) == 100 * MS
    assert playback.wait(120 * MS) == 120 * MS  # the schedule itself did not move


def test_playback_goes_on_from_a_stall() -> None:
    clock = ManualClock()
    playback = Playback(clock, threading.Event())
    playback.wait(0)
    clock.advance(5000 * MS)
    assert playback.wait(40 * MS) == 5000 * MS
    assert playback.wait(80 * MS) == 5040 * MS


def test_stop_ends_the_wait() -> None:
    stopping = threading.Event()
    stopping.set()
    assert Playback(ManualClock(), stopping).wait(0) is None
