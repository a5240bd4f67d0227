import threading
from typing import get_args

import pytest
from fakes import CollectingSink, FakeCompute, FakeSource, make_runner, run
from hypothesis import given
from hypothesis import strategies as st

from lsd.pipeline import trace as trace_module
from lsd.pipeline.clock import ManualClock
from lsd.pipeline.errors import LsdError, SinkError, StageError
from lsd.pipeline.pacer import OnMiss
from lsd.pipeline.scheduler import Why
from lsd.pipeline.trace import Admission, Depth, Drop, Failure, Planned, Repeat, Span, Trace

NAMES, REASONS, LINKS = ("capture", "blend"), ("superseded", "skipped:blend"), ("in", "out")


def test_spans_come_back_in_order_of_their_end():
    trace = Trace(["capture", "blend"], capacity=8)
    trace.record(1, 0, 10, 20, 30)
    trace.record(0, 1, 12, 13, 14)
    assert trace.spans() == [Span("capture", 1, 12, 13, 14), Span("blend", 0, 10, 20, 30)]


def test_full_ring_overwrites_the_oldest_spans():
    trace = Trace(["blend"], capacity=3)
    for seq in range(5):
        trace.record(0, seq, seq, seq, seq)
    assert [span.seq for span in trace.spans()] == [2, 3, 4]


def test_fresh_ring_holds_nothing():
    assert Trace(["blend"], capacity=4).spans() == []


def test_span_at_time_zero_is_kept():
    trace = Trace(["blend"], capacity=4)
    trace.record(0, 0, 0, 0, 0)
    assert trace.spans() == [Span("blend", 0, 0, 0, 0)]


def test_threads_record_side_by_side_without_losing_spans():
    trace = Trace(["a", "b", "c"], capacity=3000)

    def work(place):
        for seq in range(1000):
            trace.record(place, seq, seq, seq, seq)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "abc":
        assert [span.seq for span in trace.spans() if span.stage == name] == list(range(1000))


# What became of the frames


def make_trace(capacity=64):
    return Trace(NAMES, capacity, reasons=REASONS, links=LINKS)


def test_every_kind_of_record_comes_back_as_its_own():
    trace = make_trace()
    trace.record(1, 5, 10, 20, 30)
    trace.admit(5, 8, 48)
    trace.drop("skipped:blend", 6, 31)
    trace.fail("blend", 7, 32)
    trace.repeat(50, 48)
    trace.depth(1, 33, 2)
    trace.plan(2, 5, "catch_up", 9)
    found = trace.recording()
    assert (found.names, found.links) == (NAMES, LINKS)
    assert found.spans == trace.spans() == [Span("blend", 5, 10, 20, 30)]
    assert found.admissions == [Admission(5, 8, 48)]
    assert found.drops == [Drop("skipped:blend", 6, 31)]
    assert found.failures == [Failure("blend", 7, 32)]
    assert found.repeats == [Repeat(50, 48, "repeat")]
    assert found.depths == [Depth("out", 33, 2)]
    assert found.plans == [Planned(2, 5, "catch_up", 9)]


def test_admission_without_a_deadline_has_none():
    trace = make_trace()
    trace.admit(0, 8, None)
    trace.admit(1, 9, 0)
    assert [each.deadline_ns for each in trace.recording().admissions] == [None, 0]


times = st.integers(-(2**62), 2**62)
seqs = st.integers(0, 2**32 - 1)
calls = st.one_of(
    st.tuples(st.just("record"), st.integers(0, 1), seqs, times, times, times),
    st.tuples(st.just("admit"), seqs, times, st.none() | times),
    st.tuples(st.just("drop"), st.sampled_from(REASONS), seqs, times),
    st.tuples(st.just("fail"), st.sampled_from(NAMES), seqs, times),
    st.tuples(st.just("repeat"), times, times, st.sampled_from(get_args(OnMiss))),
    st.tuples(st.just("depth"), st.integers(0, 1), times, st.integers(0, 100)),
    st.tuples(st.just("plan"), st.integers(0, 9), seqs, st.sampled_from(get_args(Why)), times),
)


def expected(call):
    """Return what comes back for a call, and where."""
    method, *values = call
    if method == "record":
        return "spans", Span(NAMES[values[0]], *values[1:])
    if method == "depth":
        return "depths", Depth(LINKS[values[0]], *values[1:])
    kinds = {"admit": ("admissions", Admission), "drop": ("drops", Drop),
             "fail": ("failures", Failure), "repeat": ("repeats", Repeat),
             "plan": ("plans", Planned)}  # fmt: skip
    where, kind = kinds[method]
    return where, kind(*values)


@given(st.lists(calls, max_size=40), st.integers(1, 40))
def test_ring_returns_its_latest_records_of_all_kinds_in_order_of_time(made, capacity):
    trace = make_trace(capacity)
    for method, *values in made:
        getattr(trace, method)(*values)
    found = trace.recording()
    kept = [expected(call) for call in made[-capacity:]]
    for where, key in {
        "spans": lambda each: (each.end_ns, each.start_ns),
        "admissions": lambda each: each.captured_ns,
        "drops": lambda each: each.at_ns,
        "failures": lambda each: each.at_ns,
        "repeats": lambda each: each.at_ns,
        "depths": lambda each: each.at_ns,
    }.items():
        found_here = getattr(found, where)
        assert [key(each) for each in found_here] == sorted(key(each) for each in found_here)
        assert sorted(map(repr, found_here)) == sorted(repr(e) for w, e in kept if w == where)


def test_record_takes_32_bytes_of_a_ring_that_never_grows():
    assert trace_module._RECORD.size == 32
    trace = make_trace(capacity=3)
    for n in range(10):
        trace.depth(0, n, n)
        trace.drop("superseded", n, n)
    assert len(trace._ring) == 3 * 32


def test_frame_numbers_beyond_32_bits_start_again():
    trace = make_trace()
    trace.admit(2**32 + 3, 0, None)
    assert trace.recording().admissions[0].seq == 3


def test_threads_record_all_kinds_side_by_side():
    trace = make_trace(capacity=4000)

    def work(place):
        for seq in range(500):
            trace.depth(place, seq, seq)
            trace.fail(NAMES[place], seq, seq)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = trace.recording()
    for name, link in zip(NAMES, LINKS, strict=True):
        assert [each.frames for each in found.depths if each.link == link] == list(range(500))
        assert [each.seq for each in found.failures if each.stage == name] == list(range(500))


# What a run records


def held(runner):
    """Return what a run's trace holds, after checking it against the run's own counts."""
    found, counts = runner.trace.recording(), runner.report().counts
    reasons = [drop.reason for drop in found.drops]
    assert {reason: reasons.count(reason) for reason in reasons} == counts.dropped
    assert [each.seq for each in found.admissions] == list(range(counts.captured))
    assert len(found.failures) == counts.failed
    assert len(found.repeats) == counts.repeated
    emitted = [span.seq for span in found.spans if span.stage == "output"]
    assert len(emitted) == counts.emitted
    gone = emitted + [each.seq for each in (*found.drops, *found.failures)]
    assert len(gone) == len(set(gone)) == counts.captured - counts.in_flight
    return found


def fate(frame, _):
    """Fail on every fifth frame, skip the one behind it."""
    if frame.seq % 5 == 1:
        raise StageError("broken")
    return None if frame.seq % 5 == 2 else frame


@pytest.mark.parametrize("live", [True, False])
def test_run_records_what_became_of_every_frame(live):
    found = held(run(FakeSource(40), FakeCompute(work=fate), CollectingSink(), live=live))
    assert {failure.stage for failure in found.failures} <= {"blend"}
    assert all(failure.seq % 5 == 1 for failure in found.failures)
    assert all(drop.seq % 5 == 2 for drop in found.drops if drop.reason == "skipped:blend")


def test_superseded_frame_is_the_one_that_waited():
    first_is_in, two_is_in = threading.Event(), threading.Event()

    class Source(FakeSource):
        def read(self):
            if self.handed_over == 1:
                assert first_is_in.wait(10)
            if self.handed_over == 3:
                two_is_in.set()
            return super().read()

    def work(frame, _):
        if frame.seq == 0:
            first_is_in.set()
            assert two_is_in.wait(10)
        return frame

    stages = (Source(3), FakeCompute(work=work), CollectingSink())
    found = held(run(*stages, live=True, clock=ManualClock(5)))
    assert found.drops == [Drop("superseded", 1, 5)]
    assert [each.deadline_ns for each in found.admissions] == [40_000_005] * 3


def test_file_run_records_frames_without_deadlines():
    found = held(run(FakeSource(3), CollectingSink(), clock=ManualClock(5)))
    assert found.admissions == [Admission(seq, 5, None) for seq in range(3)]


def test_frame_is_admitted_when_its_reading_ends():
    clock = ManualClock()
    source = FakeSource(2, before=lambda n: clock.advance(7))
    found = held(run(source, CollectingSink(), live=True, clock=clock))
    read = [span for span in found.spans if span.stage == "capture.read"]
    assert [(span.start_ns, span.end_ns) for span in read] == [(0, 7), (7, 14)]
    assert [each.captured_ns for each in found.admissions] == [7, 14]


def test_depth_has_the_time_before_it_was_read():
    """What the other end changes in between lies before that end's own record, then."""
    clock = ManualClock(5)
    session = make_runner(FakeSource(1), CollectingSink(), clock=clock)._session
    stats = session.inbox.stats
    session.inbox.stats = lambda: clock.advance(10) or stats()
    session.record_depth(0)
    assert session.recorder.trace.recording().depths == [Depth("waiting for compute", 5, 0)]


@pytest.mark.parametrize("error", [SinkError("disk full"), ValueError("odd")])
def test_failure_of_the_output_is_recorded(error):
    def before(frame):
        if frame.seq == 1:
            raise error

    runner = make_runner(FakeSource(2), CollectingSink(before=before))
    runner.start()
    try:
        runner.wait(10)
    except LsdError as told:
        assert told is error  # noqa: PT017 - only one of the two ends the run
    assert [(each.stage, each.seq) for each in held(runner).failures] == [("output", 1)]


def test_output_that_returns_nothing_drops_the_frame_in_the_trace_too():
    sink = CollectingSink()
    sink.process = lambda frame: None if frame.seq else frame
    found = held(run(FakeSource(2), sink))
    assert [(each.reason, each.seq) for each in found.drops] == [("skipped:output", 1)]


def test_repeat_is_recorded_with_the_tick_that_was_missed():
    clock, sink = ManualClock(), CollectingSink()

    def before_reading(n):
        while n and not sink.frames:
            threading.Event().wait(0.001)

    def work(frame, _):
        if frame.seq == 1:
            clock.advance(100_000_000)
            assert sink.repeated.wait(10)
        return frame

    stages = (FakeSource(2, before=before_reading), FakeCompute(work=work), sink)
    found = held(run(*stages, live=True, clock=clock, latency_ms=10.0))
    assert found.repeats[0] == Repeat(at_ns=100_000_000, due_ns=10_000_000)


@pytest.mark.parametrize("live", [True, False])
def test_depths_of_both_links_are_recorded_at_both_ends_and_come_to_nothing(live):
    runner = run(FakeSource(20), FakeCompute(), CollectingSink(), live=live)
    found = held(runner)
    emitted, captured = runner.report().counts.emitted, runner.report().counts.captured
    for link, records, capacity in (
        ("waiting for compute", captured + emitted, 1 if live else 4),
        ("waiting for output", 2 * emitted, 4),
    ):
        depths = [each.frames for each in found.depths if each.link == link]
        assert len(depths) == records
        assert all(0 <= depth <= capacity for depth in depths)
        assert depths[-1] == 0


def test_demo_needs_thirteen_records_a_frame_twelve_file_to_file():
    """The figure that docs/budget.md takes the cost of tracing from; live there is the plan too."""
    compute = [FakeCompute(name) for name in ("recall", "diffusion", "memory", "blend")]
    runner = run(FakeSource(10), *compute, CollectingSink())
    found = runner.trace.recording()
    assert len(found.spans) + len(found.admissions) + len(found.depths) == 12 * 10
    live = run(FakeSource(10), *compute, CollectingSink(), live=True, ladder="auto")
    begun = live.report().stages["recall"].frames
    assert len(live.trace.recording().plans) == begun
