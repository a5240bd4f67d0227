import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.metrics import Durations, Gaps, StageDurations

MS = 1_000_000


def test_percentiles_of_nothing_are_unknown():
    found = Durations().percentiles()
    assert (found.count, found.p50, found.p99, found.max) == (0, None, None, None)


def test_percentiles_are_in_milliseconds():
    durations = Durations()
    for n in range(1, 101):
        durations.record(n, n * MS)
    found = durations.percentiles()
    # The histogram keeps three digits.
    assert (found.p50, found.p95, found.p99, found.max) == pytest.approx(
        (50, 95, 99, 100), rel=1e-3
    )


def test_warmup_frames_count_only_when_asked_for():
    durations = Durations(warmup_frames=2)
    for seq, ms in enumerate([900, 800, 5, 5]):
        durations.record(seq, ms * MS)
    assert durations.percentiles().max == pytest.approx(5, rel=1e-3)
    assert durations.percentiles(warmup=True).max == pytest.approx(900, rel=1e-3)
    assert durations.percentiles(warmup=True).count == 4


def test_longer_than_an_hour_counts_as_an_hour():
    durations = Durations()
    durations.record(0, 10**18)
    assert durations.percentiles().max == pytest.approx(3_600_000, rel=1e-3)


def test_negative_duration_counts_as_zero():
    durations = Durations()
    durations.record(0, -5)
    assert durations.percentiles().max == 0


@given(st.lists(st.integers(0, 100_000_000), min_size=1, max_size=300))
def test_percentiles_are_within_a_thousandth_of_the_exact_ones(values):
    durations = Durations()
    for value in values:
        durations.record(0, value)
    exact = sorted(values)[max(1, int(len(values) * 0.95 + 0.5)) - 1] / MS
    # A thousandth for the buckets, a microsecond for the rounding.
    assert durations.percentiles().p95 == pytest.approx(exact, rel=1e-3, abs=1.1e-3)


def test_stage_durations_tell_waiting_from_service():
    stage = StageDurations(warmup_frames=0)
    stage.record(0, ready_ns=0, start_ns=3 * MS, end_ns=10 * MS)
    assert stage.frames == 1
    assert stage.wait.percentiles().p50 == pytest.approx(3, rel=1e-3)
    assert stage.service.percentiles().p50 == pytest.approx(7, rel=1e-3)


def test_gaps_are_the_times_between_emissions():
    gaps = Gaps()
    for now_ms in (10, 50, 130):
        gaps.emitted(now_ms * MS)
    found = gaps.durations.percentiles()
    assert (found.count, found.max) == (2, pytest.approx(80, rel=1e-3))


def test_reading_while_another_thread_records_gives_whole_answers():
    durations, stopping = Durations(), threading.Event()

    def record():
        while not stopping.is_set():
            durations.record(0, 5 * MS)

    recording = threading.Thread(target=record)
    recording.start()
    try:
        found = [durations.percentiles() for _ in range(20)]
    finally:
        stopping.set()
        recording.join()
    assert all(one.p99 == pytest.approx(5, rel=1e-3) for one in found if one.count)
