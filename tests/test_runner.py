import random
import sys
import threading
from dataclasses import replace

import pytest
from fakes import (
    PERIOD_NS,
    CollectingSink,
    FakeCompute,
    FakeOptions,
    FakeSource,
    make_runner,
    mark,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lsd.pipeline.clock import ManualClock
from lsd.pipeline.errors import GraphError, LsdError, SinkError, SourceError, StageError
from lsd.pipeline.frame import FrameFlag
from lsd.pipeline.graph import FeedbackEdge
from lsd.pipeline.params import ParamStore

LOOP = FeedbackEdge("blend", ("diffusion", "blend"))


def counts_of(runner):
    """Return the counts, after checking that they agree."""
    counts = runner.report().counts
    dropped = sum(counts.dropped.values())
    assert counts.captured == counts.emitted + dropped + counts.failed + counts.in_flight
    return counts


def fail_on(*seqs, error=None):
    def work(frame, _):
        if frame.seq in seqs:
            raise error or StageError("broken")
        return frame

    return work


# Frames: all of them, in order, paired


def test_file_run_emits_every_frame_in_order():
    source, sink = FakeSource(100), CollectingSink()
    counts = counts_of(run(source, FakeCompute(), sink))
    assert sink.seqs == list(range(100))
    assert (counts.captured, counts.emitted, counts.in_flight) == (100, 100, 0)


def test_every_emitted_frame_stems_from_its_own_picture():
    blend = FakeCompute(work=lambda frame, _: mark(frame, ("made of", frame.data)))
    sink = CollectingSink()
    run(FakeSource(50), blend, sink)
    for frame in sink.frames:
        assert frame.source == ("picture", frame.seq)
        assert frame.data == ("made of", ("picture", frame.seq))
        assert frame.pts_ns == frame.seq * PERIOD_NS


def test_file_frames_have_no_deadline():
    sink = CollectingSink()
    run(FakeSource(1), sink)
    assert sink.frames[0].deadline_ns is None


def test_live_frames_are_due_a_budget_after_their_capture():
    sink = CollectingSink()
    run(FakeSource(1), sink, live=True, clock=ManualClock(5), latency_ms=16.0)
    assert sink.frames[0].captured_ns == 5
    assert sink.frames[0].deadline_ns == 16_000_005


def test_live_run_loses_only_frames_that_a_newer_one_superseded():
    first_is_in, five_is_in, five_is_out = (threading.Event() for _ in range(3))

    def before_reading(n):
        if n == 1:
            assert first_is_in.wait(10)
        if n == 6:
            five_is_in.set()
            assert five_is_out.wait(10)

    def work(frame, _):
        if frame.seq == 0:
            first_is_in.set()
            assert five_is_in.wait(10)
        return frame

    def before_emitting(frame):
        if frame.seq == 5:
            five_is_out.set()

    sink = CollectingSink(before=before_emitting)
    runner = run(FakeSource(7, before=before_reading), FakeCompute(work=work), sink, live=True)
    assert sink.seqs == [0, 5, 6]
    assert counts_of(runner).dropped == {"superseded": 4}


def test_stage_that_returns_another_frames_seq_loses_the_frame():
    blend = FakeCompute(work=lambda frame, _: replace(frame, seq=7))
    runner = run(FakeSource(1), blend, CollectingSink())
    assert counts_of(runner).failed == 1
    assert runner.status().messages == (
        "stage 'blend' frame 0: returned frame 7; a stage must keep a frame's seq",
    )


def test_two_runs_of_the_same_graph_are_the_same():
    def pictures():
        blend = FakeCompute(
            work=lambda frame, delayed: mark(frame, (frame.data, delayed["previous"] is None))
        )
        sink = CollectingSink()
        run(FakeSource(30), blend, sink, feedback=FeedbackEdge("blend", ("blend",)))
        return [(frame.seq, frame.pts_ns, frame.data) for frame in sink.frames]

    assert pictures() == pictures()


def test_change_of_a_parameter_reaches_the_next_frame_and_no_earlier_one():
    params = ParamStore({"blend": FakeOptions(kind="fake")})

    def before_reading(n):
        if n == 5:
            params.set("blend", level=9)

    sink = CollectingSink()
    run(FakeSource(8, before=before_reading), FakeCompute(), sink, params=params)
    levels = [frame.params.of("blend", FakeOptions).level for frame in sink.frames]
    assert levels == [1, 1, 1, 1, 1, 9, 9, 9]


# The feedback edge


def previous_seqs(stage):
    return [frame and frame.seq for frame in stage.previous]


def test_previous_is_what_left_the_edges_source_last():
    diffusion = FakeCompute("diffusion")
    blend = FakeCompute("blend", lambda frame, _: mark(frame, ("blended", frame.seq)))
    run(FakeSource(4), diffusion, blend, CollectingSink(), feedback=LOOP)
    assert previous_seqs(diffusion) == previous_seqs(blend) == [None, 0, 1, 2]
    assert diffusion.previous[3].data == ("blended", 2)
    assert diffusion.previous[3].source == ("picture", 2)


def test_longer_delay_begins_with_that_many_frames_of_nothing():
    blend = FakeCompute()
    run(FakeSource(5), blend, CollectingSink(), feedback=FeedbackEdge("blend", ("blend",), 3))
    assert previous_seqs(blend) == [None, None, None, 0, 1]


def test_stage_that_the_edge_does_not_name_gets_no_keyword():
    keywords = []
    diffusion = FakeCompute("diffusion", lambda frame, delayed: keywords.append(delayed) or frame)
    edge = FeedbackEdge("blend", ("blend",))
    run(FakeSource(2), diffusion, FakeCompute(), CollectingSink(), feedback=edge)
    assert keywords == [{}, {}]


@pytest.mark.parametrize("flag", [FrameFlag.REPLACED, FrameFlag.PASSTHROUGH])
def test_picture_that_is_not_the_models_own_never_becomes_history(flag):
    def work(frame, _):
        return replace(frame, flags=frame.flags | flag) if frame.seq in (0, 2, 3) else frame

    blend = FakeCompute(work=work)
    run(FakeSource(6), blend, CollectingSink(), feedback=FeedbackEdge("blend", ("blend",)))
    assert previous_seqs(blend) == [None, None, 1, 1, 1, 4]


def test_failed_and_skipped_frames_never_become_history():
    def work(frame, _):
        if frame.seq == 1:
            raise StageError("broken")
        return None if frame.seq == 2 else frame

    blend = FakeCompute(work=work)
    run(FakeSource(5), blend, CollectingSink(), feedback=FeedbackEdge("blend", ("blend",)))
    assert previous_seqs(blend) == [None, 0, 0, 0, 3]


# Discontinuities


def jumps_of(stage):
    return [frame.seq for frame in stage.seen if frame.flags & FrameFlag.DISCONTINUITY]


def test_first_frame_and_jumps_of_the_source_are_flagged():
    blend = FakeCompute()
    run(FakeSource(6, jumps=[3]), blend, CollectingSink())
    assert jumps_of(blend) == [0, 3]


def test_jump_is_told_again_when_its_frame_failed():
    blend = FakeCompute(work=fail_on(3))
    run(FakeSource(6, jumps=[3]), blend, CollectingSink())
    assert jumps_of(blend) == [0, 3, 4]


def test_jump_is_told_until_a_frame_behind_it_becomes_history():
    def work(frame, _):
        passed = frame.seq in (3, 4)
        return replace(frame, flags=frame.flags | FrameFlag.PASSTHROUGH) if passed else frame

    blend = FakeCompute(work=work)
    edge = FeedbackEdge("blend", ("blend",))
    run(FakeSource(8, jumps=[3]), blend, CollectingSink(), feedback=edge)
    assert jumps_of(blend) == [0, 3, 4, 5]


def test_cut_that_a_stage_finds_is_told_again_when_its_frame_failed():
    """As capture does: it compares pictures, the source knows nothing of a cut."""

    def find_cut(frame, _):
        cut = frame.seq == 3
        return replace(frame, flags=frame.flags | FrameFlag.DISCONTINUITY) if cut else frame

    finder, blend = FakeCompute("diffusion", find_cut), FakeCompute(work=fail_on(3))
    run(FakeSource(6), finder, blend, CollectingSink())
    assert jumps_of(blend) == [0, 3, 4]


def test_history_that_is_too_far_behind_the_motion_is_a_jump():
    def work(frame, _):
        passed = frame.seq in (1, 4, 5, 6)
        return replace(frame, flags=frame.flags | FrameFlag.PASSTHROUGH) if passed else frame

    blend = FakeCompute(work=work)
    run(FakeSource(9), blend, CollectingSink())
    assert jumps_of(blend) == [0, 7]


def test_jump_is_told_when_its_frame_was_superseded():
    first_is_in, three_is_in = threading.Event(), threading.Event()

    def before_reading(n):
        if n == 1:
            assert first_is_in.wait(10)
        if n == 3:
            three_is_in.set()

    def work(frame, _):
        if frame.seq == 0:
            first_is_in.set()
            assert three_is_in.wait(10)
        return frame

    blend = FakeCompute(work=work)
    source = FakeSource(None, before=before_reading, jumps=[1])
    runner = run(source, blend, CollectingSink(), live=True, max_frames=4)
    assert counts_of(runner).dropped["superseded"] >= 1
    assert blend.seen[1].seq in (2, 3)
    assert jumps_of(blend) == [0, blend.seen[1].seq]


# Failing stages


def test_exception_loses_the_frame_and_names_stage_and_frame():
    sink = CollectingSink()
    runner = run(FakeSource(5), FakeCompute(work=fail_on(2)), sink)
    assert sink.seqs == [0, 1, 3, 4]
    assert counts_of(runner).failed == 1
    assert runner.status().messages == ("stage 'blend' frame 2: broken",)


def test_exception_that_is_not_ours_is_named_by_its_class():
    work = fail_on(2, error=ValueError("no"))
    runner = run(FakeSource(5), FakeCompute(work=work), CollectingSink())
    assert runner.status().messages == ("stage 'blend' frame 2: ValueError: no",)


def test_same_failure_is_told_once():
    runner = run(FakeSource(20), FakeCompute(work=fail_on(*range(5, 15))), CollectingSink())
    assert counts_of(runner).failed == 10
    assert runner.status().messages == ("stage 'blend' frame 5: broken",)


def test_failure_in_the_source_stages_own_step_is_counted_too():
    source = FakeSource(3)
    work = fail_on(1)
    source.process = lambda frame: work(frame, {})
    runner = run(source, CollectingSink())
    assert counts_of(runner).failed == 1
    assert runner.status().messages == ("stage 'capture' frame 1: broken",)


def test_on_error_stop_ends_the_run_with_the_stages_error():
    sink = CollectingSink()
    runner = make_runner(FakeSource(None), FakeCompute(work=fail_on(3)), sink, on_error="stop")
    runner.start()
    with pytest.raises(StageError, match=r"stage 'blend' frame 3: broken$"):
        runner.wait(10)
    assert sink.seqs == [0, 1, 2]
    assert sink.calls == ["open", "close"]
    assert counts_of(runner).failed == 1


def test_fifty_failures_in_a_row_end_the_run():
    blend = FakeCompute(work=fail_on(*range(3, 1000)))
    runner = make_runner(FakeSource(None), blend, CollectingSink())
    runner.start()
    with pytest.raises(StageError, match=r"frame 52: broken \(50 frames in a row have failed"):
        runner.wait(10)
    assert counts_of(runner).failed == 50


def test_forty_nine_failures_in_a_row_do_not_end_the_run():
    failing = [seq for seq in range(200) if seq % 50]
    runner = run(FakeSource(200), FakeCompute(work=fail_on(*failing)), CollectingSink())
    assert counts_of(runner).failed == len(failing)


def test_stage_that_returns_nothing_drops_the_frame():
    blend = FakeCompute(work=lambda frame, _: None if frame.seq % 2 else frame)
    sink = CollectingSink()
    runner = run(FakeSource(6), blend, sink)
    assert sink.seqs == [0, 2, 4]
    assert counts_of(runner).dropped == {"skipped:blend": 3}


def test_failing_sink_stage_loses_the_frame_only():
    def before(frame):
        if frame.seq == 1:
            raise ValueError("odd")

    runner = run(FakeSource(4), CollectingSink(before=before))
    counts = counts_of(runner)
    assert (counts.failed, counts.emitted) == (1, 3)
    assert runner.status().messages == ("stage 'output' frame 1: ValueError: odd",)


def test_sink_error_ends_the_run():
    def before(frame):
        if frame.seq == 3:
            raise SinkError("out.mp4: disk full; no output is left")

    source, sink = FakeSource(None), CollectingSink(before=before)
    runner = make_runner(source, FakeCompute(), sink)
    runner.start()
    with pytest.raises(SinkError, match="disk full"):
        runner.wait(10)
    counts = counts_of(runner)
    assert (counts.emitted, counts.failed) == (3, 1)
    assert source.calls == sink.calls == ["open", "close"]


def test_broken_source_drains_what_it_gave_and_then_tells():
    def before(n):
        if n == 7:
            raise SourceError("camera /dev/video0 is gone")

    sink = CollectingSink()
    runner = make_runner(FakeSource(None, before=before), FakeCompute(), sink)
    runner.start()
    with pytest.raises(SourceError, match="video0 is gone"):
        runner.wait(10)
    assert sink.seqs == list(range(7))
    assert sink.calls == ["open", "close"]
    assert counts_of(runner).in_flight == 0
    assert runner.report().error == "camera /dev/video0 is gone"


def test_unexpected_error_of_the_source_is_told_as_ours():
    runner = make_runner(FakeSource(None, before=lambda n: {}[n]), CollectingSink())
    runner.start()
    with pytest.raises(StageError, match="capture: KeyError: 0"):
        runner.wait(10)


# Opening and closing


def test_each_stage_is_opened_and_closed_once():
    stages = [FakeSource(3), FakeCompute(), CollectingSink()]
    run(*stages)
    assert [stage.calls for stage in stages] == [["open", "close"]] * 3


def test_stage_that_cannot_open_closes_all_that_were_tried():
    stages = [FakeSource(3), FakeCompute("a"), FakeCompute("b"), CollectingSink()]
    stages[2].fails_to_open = SourceError("weights missing")
    with pytest.raises(SourceError, match="weights missing"):
        make_runner(*stages).start()
    assert [stage.calls for stage in stages] == [["open", "close"]] * 4


def test_sink_that_cannot_open_is_told_before_the_stages_between_have_worked_for_it():
    stages = [FakeSource(3), FakeCompute("a"), CollectingSink()]
    stages[2].fails_to_open = SourceError("port in use")
    with pytest.raises(SourceError, match="port in use"):
        make_runner(*stages).start()
    assert [stage.calls for stage in stages] == [["open", "close"], [], ["open", "close"]]


def test_unexpected_error_while_opening_names_the_stage():
    blend = FakeCompute()
    blend.fails_to_open = ValueError("odd")
    with pytest.raises(StageError, match="stage 'blend' could not start: ValueError: odd"):
        make_runner(FakeSource(3), blend, CollectingSink()).start()


def test_file_that_cannot_be_finished_fails_the_run():
    source, sink = FakeSource(3), CollectingSink()
    sink.fails_to_close = SinkError("out.mp4: disk full")
    runner = make_runner(source, sink)
    runner.start()
    with pytest.raises(SinkError, match="disk full"):
        runner.wait(10)
    assert source.calls == ["open", "close"]


def test_graph_that_does_not_fit_is_refused_before_anything_opens():
    with pytest.raises(GraphError, match="'blend' is no sink"):
        make_runner(FakeSource(3), FakeCompute())


def test_switch_interval_is_restored():
    before = sys.getswitchinterval()
    inside = []
    run(FakeSource(1), FakeCompute(work=lambda f, _: inside.append(sys.getswitchinterval()) or f),
        CollectingSink())  # fmt: skip
    assert inside == [pytest.approx(0.0005)]
    assert sys.getswitchinterval() == before


# Ending early


def test_stop_drains_what_is_in_flight_and_closes_the_sink():
    sink = CollectingSink()
    runner = make_runner(FakeSource(None), FakeCompute(), sink)
    runner.start()
    while not sink.frames:
        assert not runner.wait(0.001)
    runner.stop()
    assert runner.wait(10)
    counts = counts_of(runner)
    assert counts.in_flight == 0
    assert sink.seqs == list(range(counts.captured))
    assert sink.calls == ["open", "close"]


def test_stop_is_told_to_the_source_and_not_to_stages_that_still_drain():
    told = {}

    def before(frame):
        told["sink"] = sink.context.stopping.is_set()
        told["source"] = source.context.stopping.is_set()

    source = FakeSource(5, before=lambda n: runner.stop() if n == 1 else None)
    sink = CollectingSink(before=lambda frame: runner.stop() or before(frame))
    runner = make_runner(source, sink)
    runner.start()
    runner.wait(10)
    assert told == {"sink": False, "source": True}


def test_kill_leaves_what_is_in_flight_and_says_so():
    is_in, go_on = threading.Event(), threading.Event()

    def work(frame, _):
        is_in.set()
        assert go_on.wait(10)
        return frame

    stages = [FakeSource(None), FakeCompute(work=work), CollectingSink()]
    runner = make_runner(*stages)
    runner.start()
    assert is_in.wait(10)
    runner.kill()
    go_on.set()
    assert runner.wait(10)
    counts = counts_of(runner)
    assert counts.emitted == len(stages[-1].frames) == 0
    assert counts.in_flight == counts.captured >= 1
    assert [stage.calls for stage in stages] == [["open", "close"]] * 3


def test_kill_closes_the_sink_while_a_stage_hangs_and_the_stage_once_it_returns():
    is_in, go_on, sink_is_closed = (threading.Event() for _ in range(3))

    def work(frame, _):
        is_in.set()
        assert go_on.wait(10)
        return frame

    blend, sink = FakeCompute(work=work), CollectingSink()
    sink.close = sink_is_closed.set
    runner = make_runner(FakeSource(1), blend, sink)
    runner.start()
    assert is_in.wait(10)
    runner.kill()
    assert sink_is_closed.wait(10)
    assert blend.calls == ["open"]
    assert not runner.wait(0)
    go_on.set()
    assert runner.wait(10)
    assert blend.calls == ["open", "close"]


def test_max_frames_ends_the_run():
    runner = run(FakeSource(None), CollectingSink(), max_frames=12)
    assert counts_of(runner).captured == 12


def test_duration_of_a_file_run_is_counted_in_video():
    runner = run(FakeSource(None), CollectingSink(), max_duration_s=1.0)
    assert counts_of(runner).captured == 25


def test_duration_of_a_live_run_is_counted_by_the_clock():
    clock = ManualClock()
    source = FakeSource(None, before=lambda n: clock.advance(PERIOD_NS))
    runner = run(source, CollectingSink(), live=True, clock=clock, max_duration_s=1.0)
    assert counts_of(runner).captured == 25


def test_duration_ends_a_live_run_whose_source_gives_nothing():
    clock = ManualClock()

    def wait_for_a_picture(n):
        clock.advance(2 * 10**9)
        assert source.context.stopping.wait(10)

    source = FakeSource(None, before=wait_for_a_picture)
    runner = run(source, CollectingSink(), live=True, clock=clock, max_duration_s=1.0)
    assert counts_of(runner).captured == 0


# Live: on time, late, repeated


def test_live_frame_goes_out_when_it_is_ready_and_not_at_its_deadline():
    sink = CollectingSink()
    runner = run(
        FakeSource(5, before=lambda n: sink_has(sink, n)),
        sink,
        live=True,
        clock=ManualClock(),
    )
    assert sink.seqs == [0, 1, 2, 3, 4]
    report = runner.report()
    assert report.latency.max == 0  # the clock has not moved, no deadline has come
    assert (report.hit_rate, report.counts.repeated) == (1.0, 0)


def sink_has(sink, count):
    """Wait until the sink has that many frames."""
    for _ in range(10_000):
        if len(sink.frames) >= count:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"frame {count - 1} never came out")


def test_missed_deadline_repeats_the_last_picture_and_the_late_frame_follows():
    clock, sink = ManualClock(), CollectingSink()

    def work(frame, _):
        if frame.seq == 1:
            clock.advance(100_000_000)
            assert sink.repeated.wait(10)
        return frame

    source = FakeSource(2, before=lambda n: sink_has(sink, n))
    runner = run(source, FakeCompute(work=work), sink, live=True, clock=clock, latency_ms=10.0)
    counts = counts_of(runner)
    assert sink.seqs == [0, 1]
    assert counts.emitted == 2
    assert counts.repeated == len(sink.repeats) >= 1
    assert runner.report().hit_rate == 0.5


def test_file_run_never_repeats_and_has_no_hit_rate():
    clock, sink = ManualClock(), CollectingSink()
    blend = FakeCompute(work=lambda frame, _: clock.advance(10**9) or frame)
    report = run(FakeSource(5), blend, sink, clock=clock).report()
    assert sink.repeats == []
    assert (report.budget_ms, report.hit_rate) == (None, None)


def test_dropped_and_failed_frames_are_missed_deadlines():
    def work(frame, _):
        if frame.seq == 1:
            raise StageError("broken")
        return None if frame.seq == 2 else frame

    source = FakeSource(4)
    runner = make_runner(
        source, FakeCompute(work=work), CollectingSink(), live=True, clock=ManualClock()
    )
    source_waits_for_empty_mailbox(runner, source)
    runner.start()
    assert runner.wait(10)
    assert counts_of(runner).captured == 4
    assert runner.report().hit_rate == 0.5


def source_waits_for_empty_mailbox(runner, source):
    """Make the source hand over a picture only when none is in flight."""
    read = source.read

    def read_when_empty():
        for _ in range(10_000):
            if runner.status().in_flight == 0:
                return read()
            threading.Event().wait(0.001)
        raise AssertionError("a frame stays in flight")

    source.read = read_when_empty


def test_sink_that_has_nothing_to_repeat_counts_no_repeat():
    clock, sink = ManualClock(), CollectingSink()
    sink.repeat = lambda pts_ns: bool(sink.repeated.set())

    def work(frame, _):
        if frame.seq == 1:
            clock.advance(100_000_000)
            assert sink.repeated.wait(10)
        return frame

    source = FakeSource(2, before=lambda n: sink_has(sink, n))
    runner = run(source, FakeCompute(work=work), sink, live=True, clock=clock)
    assert counts_of(runner).repeated == 0


# What the run tells


def test_status_knows_how_many_frames_will_come():
    assert run(FakeSource(8), CollectingSink()).status().expected == 8
    assert run(FakeSource(8), CollectingSink(), max_frames=3).status().expected == 3


def test_status_says_whether_the_run_goes_on():
    runner = make_runner(FakeSource(3), CollectingSink())
    assert not runner.status().is_running
    runner.start()
    runner.wait(10)
    assert not runner.status().is_running


def test_trace_holds_a_span_for_every_stage_and_frame():
    runner = run(FakeSource(5), FakeCompute(), CollectingSink())
    seen = {(span.stage, span.seq) for span in runner.trace.spans()}
    names = ("capture.read", "capture", "blend", "output")
    assert seen == {(name, seq) for name in names for seq in range(5)}
    for span in runner.trace.spans():
        assert span.ready_ns <= span.start_ns <= span.end_ns


# Nothing is lost uncounted, whatever happens


@settings(max_examples=20)
@given(
    live=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    ending=st.sampled_from(["eos", "stop", "kill", "source error", "sink error", "on_error stop"]),
)
def test_frames_are_conserved_at_every_end(live, seed, ending):
    chance = random.Random(seed)
    count = chance.randrange(1, 60)
    last = chance.randrange(count)

    def before_reading(n):
        if n == last and ending == "stop":
            runner.stop()
        if n == last and ending == "kill":
            runner.kill()
        if n == last and ending == "source error":
            raise SourceError("gone")

    def work(frame, _):
        what = random.Random(f"{seed} {frame.seq}").random()
        if what < 0.2:
            raise StageError("broken")
        return None if what < 0.4 else mark(frame, ("made of", frame.source))

    def before_emitting(frame):
        if frame.seq >= last and ending == "sink error":
            raise SinkError("disk full")

    blend, sink = FakeCompute(work=work), CollectingSink(before=before_emitting)
    on_error = "stop" if ending == "on_error stop" else "skip"
    source = FakeSource(count, before=before_reading)
    runner = make_runner(source, blend, sink, live=live, on_error=on_error)
    runner.start()
    try:
        assert runner.wait(10), "the run did not end"
    except LsdError:
        assert ending in ("source error", "sink error", "on_error stop")

    counts = counts_of(runner)
    assert counts.emitted == len(sink.frames)
    assert sink.seqs == sorted(set(sink.seqs))
    assert all(frame.data == ("made of", ("picture", frame.seq)) for frame in sink.frames)
    assert counts.captured <= source.handed_over
    assert len(blend.seen) <= counts.captured - counts.dropped.get("superseded", 0)
    if ending in ("eos", "stop", "source error"):
        assert counts.in_flight == 0
        assert len(blend.seen) == counts.captured - counts.dropped.get("superseded", 0)
    if ending == "eos":
        assert counts.captured == count
    if not live:
        assert "superseded" not in counts.dropped
        assert counts.repeated == 0
    for stage in (source, blend, sink):
        assert stage.calls == ["open", "close"]
