import threading

from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline.clock import ManualClock
from lsd.pipeline.pacer import Pacer

MS = 1_000_000


def started(deadline_ms=40, now_ms=20):
    pacer = Pacer(25)
    pacer.fresh(deadline_ms * MS, now_ms * MS)
    return pacer


def test_nothing_is_due_before_the_first_frame():
    pacer = Pacer(25)
    assert pacer.due_ns is None
    assert not pacer.tick(10**12)


def test_first_tick_is_the_first_frames_deadline():
    assert started(deadline_ms=40).due_ns == 40 * MS


def test_frame_without_deadline_is_due_a_period_later():
    pacer = Pacer(25)
    pacer.fresh(None, 7 * MS)
    assert pacer.due_ns == 47 * MS


def test_first_frame_that_is_late_puts_the_tick_on_the_next_deadline():
    assert started(deadline_ms=40, now_ms=130).due_ns == 160 * MS


def test_missed_deadline_asks_for_one_repeat_a_tick():
    pacer = started()
    assert [pacer.tick(now * MS) for now in (40, 79, 80, 81, 120)] == [
        False, False, True, False, True,
    ]  # fmt: skip


def test_late_frame_spares_the_next_repeat():
    pacer = started()
    pacer.tick(40 * MS)
    assert pacer.tick(80 * MS)
    pacer.fresh(80 * MS, 85 * MS)
    assert not pacer.tick(120 * MS)


def test_frame_that_comes_before_its_overdue_tick_is_looked_at_prevents_the_repeat():
    pacer = started()
    pacer.tick(40 * MS)
    pacer.fresh(80 * MS, 82 * MS)
    assert not pacer.tick(82 * MS)
    assert pacer.due_ns == 120 * MS


def test_output_held_up_for_many_periods_repeats_once_and_moves_the_ticks():
    pacer = started()
    pacer.tick(40 * MS)
    assert pacer.tick(995 * MS)
    assert pacer.due_ns == 1035 * MS
    assert not pacer.tick(996 * MS)


def test_frame_after_a_long_stall_gives_the_ticks_its_own_phase():
    pacer = started()
    for now in (40, 80, 120):
        pacer.tick(now * MS)
    pacer.fresh(deadline_ns=171 * MS, now_ns=150 * MS)
    assert pacer.due_ns == 171 * MS


def test_frame_after_one_missed_deadline_leaves_the_ticks_where_they_are():
    pacer = started()
    pacer.tick(40 * MS)
    pacer.tick(80 * MS)
    pacer.fresh(deadline_ns=131 * MS, now_ns=90 * MS)
    assert pacer.due_ns == 120 * MS


def test_output_held_up_takes_its_phase_from_the_next_fresh_frame():
    pacer = started()
    pacer.tick(40 * MS)
    pacer.tick(995 * MS)
    pacer.fresh(deadline_ns=1011 * MS, now_ns=1000 * MS)
    assert pacer.due_ns == 1011 * MS


def test_frame_that_ended_the_hold_up_prevents_the_repeat():
    pacer = started()
    pacer.tick(40 * MS)
    pacer.fresh(deadline_ns=80 * MS, now_ns=995 * MS)
    assert not pacer.tick(996 * MS)


def test_frame_that_is_out_long_before_its_deadline_is_not_missed():
    pacer = Pacer(25)  # with a budget of 100 ms, 2.5 periods
    pacer.fresh(deadline_ns=100 * MS, now_ns=20 * MS)
    pacer.fresh(deadline_ns=140 * MS, now_ns=60 * MS)
    assert not pacer.tick(100 * MS)
    assert not pacer.tick(140 * MS)
    assert pacer.tick(180 * MS)


def test_lateness_is_that_of_the_last_tick_that_was_due():
    pacer = started(deadline_ms=40)
    assert pacer.lateness_ns is None
    pacer.tick(39 * MS)
    assert pacer.lateness_ns is None
    pacer.tick(43 * MS)
    pacer.tick(79 * MS)
    assert pacer.lateness_ns == 3 * MS
    pacer.tick(80 * MS)
    assert pacer.lateness_ns == 0
    pacer.tick(995 * MS)
    assert pacer.lateness_ns == 875 * MS


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_every_missing_frame_is_repeated_exactly_once_on_a_manual_clock(present):
    clock, pacer, never = ManualClock(), Pacer(25), threading.Event()
    pacer.fresh(40 * MS, 20 * MS)
    clock.wait_until(40 * MS, never)
    pacer.tick(clock.now_ns())
    repeats = []
    for k, is_there in enumerate(present, start=1):
        if is_there:
            clock.wait_until((k * 40 + 20) * MS, never)
            pacer.fresh((k + 1) * 40 * MS, clock.now_ns())
        assert pacer.due_ns is not None
        clock.wait_until(pacer.due_ns, never)
        repeats.append(pacer.tick(clock.now_ns()))
    assert repeats == [not is_there for is_there in present]
