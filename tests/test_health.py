"""When a run is judged to be stalled, without a run."""

from __future__ import annotations

import pytest

from lsd.pipeline.health import STALL_S, judge
from lsd.pipeline.ledger import Ledger

SECOND = 1_000_000_000
LIMIT = round(STALL_S * SECOND)


def state_of(ledger, now_ns, **changes):
    how = {"error": None, "has_started": True, "is_stopping": False, "has_ended": False}
    return judge(ledger.counts(), now_ns, **{**how, **changes}).state


@pytest.fixture
def busy():
    """Return a ledger with a frame in flight since second 3, behind one that was out at 2."""
    ledger = Ledger(0)
    ledger.capture(SECOND)
    ledger.emit(0, 2 * SECOND, None)
    ledger.capture(3 * SECOND)
    return ledger


@pytest.mark.parametrize(("late_ns", "state"), [(0, "running"), (1, "stalled")])
def test_stall_is_counted_from_when_there_was_something_to_do(busy, late_ns, state):
    assert state_of(busy, 3 * SECOND + LIMIT + late_ns) == state


@pytest.mark.parametrize(("late_ns", "state"), [(0, "running"), (1, "stalled")])
def test_stall_is_counted_from_what_came_out_last(busy, late_ns, state):
    for seq in range(2, 40):  # there is always one in flight
        busy.capture(seq * SECOND)
        busy.emit(seq - 1, seq * SECOND, None)
    assert state_of(busy, 39 * SECOND + LIMIT + late_ns) == state


def test_drops_are_no_progress(busy):
    for seq in range(4, 40):
        busy.capture(seq * SECOND)
        busy.drop("superseded")
    assert state_of(busy, 40 * SECOND) == "stalled"


def test_nothing_in_flight_is_no_stall():
    ledger = Ledger(0)
    ledger.capture(0)
    ledger.emit(0, SECOND, None)
    assert state_of(ledger, 1000 * SECOND) == "running"


def test_what_is_missing_is_told_and_ends_no_run(busy):
    without = (
        "capture is without its source, for 4 s",
        "output is without 1 of 2 outputs, for 1 s",
    )
    how = {"error": None, "has_started": True, "has_ended": False, "troubles": without}
    health = judge(busy.counts(), 4 * SECOND, is_stopping=False, **how)
    assert (health.state, health.is_alive, health.is_ready) == ("running", True, True)
    assert (health.reason, health.troubles) == ("; ".join(without), 2)
    stalled = judge(busy.counts(), 100 * SECOND, is_stopping=False, **how)
    assert stalled.reason.startswith("nothing has come out")


def test_what_is_worse_is_told_first(busy):
    late_ns = 100 * SECOND
    assert state_of(busy, late_ns, is_stopping=True) == "stalled"
    assert state_of(busy, late_ns, has_started=False) == "starting"
    assert state_of(busy, late_ns, has_ended=True) == "ended"
    assert state_of(busy, late_ns, has_ended=True, error=ValueError("x")) == "failed"
    assert state_of(busy, 4 * SECOND, is_stopping=True) == "stopping"
