import threading

import pytest

from lsd.pipeline.clock import ManualClock, MonotonicClock


def test_manual_clock_moves_only_when_told():
    clock = ManualClock(5)
    assert clock.now_ns() == clock.now_ns() == 5
    clock.advance(7)
    assert clock.now_ns() == 12


def test_waiting_on_a_manual_clock_moves_it():
    clock = ManualClock()
    assert not clock.wait_until(40, threading.Event())
    assert clock.now_ns() == 40


def test_waiting_for_the_past_does_not_move_a_manual_clock_back():
    clock = ManualClock(50)
    clock.wait_until(40, threading.Event())
    assert clock.now_ns() == 50


def test_manual_clock_refuses_to_go_back():
    with pytest.raises(AssertionError, match="does not run backwards"):
        ManualClock().advance(-1)


@pytest.mark.parametrize("clock", [ManualClock(), MonotonicClock()])
def test_wait_reports_that_a_stop_came_first(clock):
    stopping = threading.Event()
    stopping.set()
    assert clock.wait_until(clock.now_ns() + 10**12, stopping)


def test_monotonic_wait_lasts_at_least_as_long_as_asked():
    clock = MonotonicClock()
    when_ns = clock.now_ns() + 1_000_000
    assert not clock.wait_until(when_ns, threading.Event())
    assert clock.now_ns() >= when_ns


def test_monotonic_wait_for_the_past_returns_at_once():
    assert not MonotonicClock().wait_until(0, threading.Event())
