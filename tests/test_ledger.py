import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.ledger import Ledger

SECOND = 1_000_000_000


def ledger_with(captured, on_time=(), late=(), warmup_frames=10):
    ledger = Ledger(warmup_frames)
    for _ in range(captured):
        ledger.capture(0)
    for seq in on_time:
        ledger.emit(seq, now_ns=5, deadline_ns=5)
    for seq in late:
        ledger.emit(seq, now_ns=6, deadline_ns=5)
    return ledger


def test_frame_that_is_out_exactly_at_its_deadline_is_on_time():
    counts = ledger_with(2, on_time=[0], late=[1]).counts()
    assert (counts.on_time, counts.counted) == (1, 2)


def test_long_run_leaves_the_warmup_out():
    counts = ledger_with(30, on_time=range(15), late=range(15, 30)).counts()
    assert (counts.on_time, counts.counted) == (5, 20)


@pytest.mark.parametrize(("captured", "counted"), [(0, 0), (20, 20), (21, 11)])
def test_run_of_no_more_than_twice_the_warmup_counts_all_frames(captured, counted):
    assert ledger_with(captured).counts().counted == counted


def test_short_run_counts_what_was_on_time_in_the_warmup():
    assert ledger_with(20, on_time=range(20)).counts().on_time == 20


def test_frames_that_never_came_out_are_counted_as_missed():
    counts = ledger_with(40, on_time=range(10, 40, 2)).counts()
    assert (counts.on_time, counts.counted) == (15, 30)


def test_fps_is_taken_between_the_first_and_the_last_emission():
    ledger = Ledger(0)
    for seq in range(5):
        ledger.capture(0)
        ledger.emit(seq, 7 * SECOND + seq * SECOND // 25, None)
    assert ledger.counts().fps == pytest.approx(25.0)


@pytest.mark.parametrize("emitted", [0, 1])
def test_fps_of_less_than_two_frames_is_zero(emitted):
    ledger = Ledger(0)
    for seq in range(emitted):
        ledger.capture(0)
        ledger.emit(seq, SECOND, None)
    assert ledger.counts().fps == 0.0


STAND_INS = ("repeat", "passthrough", "interpolate")


@given(st.lists(st.sampled_from(["emit", "drop", "fail", *STAND_INS, "stay"]), max_size=60))
def test_every_frame_is_booked_in_and_out_once(fates):
    ledger = Ledger(3)
    for seq, fate in enumerate(fates):
        ledger.capture(0)
        if fate == "emit":
            ledger.emit(seq, seq, None)
        elif fate == "drop":
            ledger.drop(f"reason {seq % 2}")
        elif fate == "fail":
            ledger.fail()
        elif fate in STAND_INS:
            ledger.repeat(fate)
    counts = ledger.counts()
    assert counts.in_flight == sum(fates.count(kind) for kind in ("stay", *STAND_INS))
    assert counts.emitted == fates.count("emit")
    assert sum(counts.dropped.values()) == fates.count("drop")
    assert counts.failed == fates.count("fail")
    assert counts.repeated == fates.count("repeat")
    assert counts.passed_through == fates.count("passthrough")
    assert counts.interpolated == fates.count("interpolate")


def test_busy_since_is_when_the_frames_in_flight_began_to_be_some():
    ledger = Ledger(0)
    assert ledger.counts().busy_since_ns is None
    ledger.capture(5)
    ledger.capture(6)
    ledger.drop("superseded")
    assert ledger.counts().busy_since_ns == 5
    ledger.emit(1, 7, None)
    assert ledger.counts().busy_since_ns is None
    ledger.capture(9)
    assert ledger.counts().busy_since_ns == 9
