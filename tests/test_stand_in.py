"""What goes out at a missed deadline: a run on a clock that moves only when told."""

import threading
from types import SimpleNamespace

import pytest
from fakes import CollectingSink, FakeCompute, FakeSource, make_runner, run

from lsd.pipeline.clock import ManualClock
from lsd.pipeline.config import load_config
from lsd.pipeline.errors import ConfigError, GraphError, SinkError
from lsd.pipeline.frame import Frame
from lsd.pipeline.launch import build_runner
from lsd.pipeline.output_loop import OutputLoop
from lsd.pipeline.overrides import SetPath
from lsd.pipeline.params import Params
from lsd.pipeline.part import Part
from lsd.pipeline.session import Flight

MS = 1_000_000


class StandInSink(CollectingSink):
    """Keeps what stood in: (kind, time, picture).

    Args:
        knows_motion: whether it can interpolate.
    """

    def __init__(self, *, knows_motion=True, error=None):
        super().__init__()
        self.stood_in = []
        self.knows_motion = knows_motion
        self.error = error

    def _keep(self, *what):
        if self.error:
            self.repeated.set()
            raise self.error
        self.stood_in.append(what)
        self.repeated.set()

    def repeat(self, pts_ns):
        self._keep("repeat", pts_ns, None)
        return True

    def passthrough(self, source, pts_ns):
        self._keep("passthrough", pts_ns, source)

    def interpolate(self, pts_ns):
        if self.knows_motion:
            self._keep("interpolate", pts_ns, None)
        return self.knows_motion


def missed(on_miss, sink, *, misses_while="computing", **ends):
    """Run two frames, 100 ms apart; the tick is missed before or after the second's capture."""
    clock = ManualClock(7 * MS)

    def stall():
        clock.advance(100 * MS)
        assert sink.repeated.wait(10)

    def before_reading(n):
        while n and not sink.frames:
            threading.Event().wait(0.001)
        if n and misses_while == "capturing":
            stall()

    def work(frame, _):
        if frame.seq == 1 and misses_while == "computing":
            stall()
        return frame

    stages = (FakeSource(2, before=before_reading), FakeCompute(work=work), sink)
    part = Part(frozenset(stage.name for stage in stages), **ends)
    return run(*stages, live=True, clock=clock, latency_ms=10.0, on_miss=on_miss, part=part)


# The tick at 17 ms, the first frame's own deadline, is only looked at at 107: something is missing
# by then, and is stamped with the capture that belongs to that tick.


@pytest.mark.parametrize("kind", ["repeat", "passthrough", "interpolate"])
def test_stand_in_is_shown_and_counted_by_its_kind(kind):
    sink = StandInSink()
    runner = missed(kind, sink)
    counts = runner.report().counts
    assert {each[0] for each in sink.stood_in} == {kind}
    status = runner.status()
    assert [counts.repeated, counts.passed_through, counts.interpolated] == [
        status.repeated, status.passed_through, status.interpolated,
    ]  # fmt: skip
    found = {
        "repeat": counts.repeated,
        "passthrough": counts.passed_through,
        "interpolate": counts.interpolated,
    }
    assert found.pop(kind) == len(sink.stood_in) >= 1
    assert set(found.values()) == {0}
    assert {each.kind for each in runner.trace.recording().repeats} == {kind}
    assert sink.seqs == [0, 1], "the late frame follows"


def test_passthrough_shows_the_newest_captured_picture():
    sink = StandInSink()
    missed("passthrough", sink)
    assert sink.stood_in[0] == ("passthrough", 7 * MS, ("picture", 1))


class Elsewhere:
    """Both ends of what is captured in another process."""

    def __init__(self, frame=None):
        self.shown = []
        self._frame = frame

    def show(self, frame):
        self.shown.append((frame.seq, frame.data))

    def look(self):
        return self._frame


def test_passthrough_shows_what_another_process_has_captured():
    sink = StandInSink()
    missed("passthrough", sink, newest=Elsewhere(SimpleNamespace(seq=9, data="its picture")))
    assert {each[0] for each in sink.stood_in} == {"passthrough"}
    assert sink.stood_in[0][2] == "its picture"


def test_nothing_was_captured_elsewhere_yet():
    sink = StandInSink()
    missed("passthrough", sink, newest=Elsewhere())
    assert {each[0] for each in sink.stood_in} == {"repeat"}


def test_each_captured_picture_is_shown_to_another_process():
    elsewhere = Elsewhere()
    missed("repeat", StandInSink(), showing=elsewhere)
    assert elsewhere.shown == [(0, ("picture", 0)), (1, ("picture", 1))]


def test_stalled_source_has_its_last_picture_repeated_and_not_passed_through():
    sink = StandInSink()
    counts = missed("passthrough", sink, misses_while="capturing").report().counts
    assert {each[0] for each in sink.stood_in} == {"repeat"}
    assert (counts.passed_through, counts.repeated) == (0, len(sink.stood_in))


def test_unknown_motion_is_a_repeat():
    sink = StandInSink(knows_motion=False)
    counts = missed("interpolate", sink).report().counts
    assert {each[0] for each in sink.stood_in} == {"repeat"}
    assert (counts.interpolated, counts.repeated) == (0, len(sink.stood_in))


def test_stand_in_that_fails_is_told_and_loses_no_frame():
    sink = StandInSink(error=ValueError("no"))
    runner = missed("passthrough", sink)
    assert runner.status().messages == ("stage 'output' passthrough: ValueError: no",)
    counts = runner.report().counts
    assert (counts.emitted, counts.passed_through, counts.failed) == (2, 0, 0)


def test_stand_in_without_a_sink_left_ends_the_run():
    sink = StandInSink(error=SinkError("the disk is full"))
    with pytest.raises(SinkError, match="the disk is full"):
        missed("interpolate", sink)


def test_sink_that_can_only_repeat_is_refused_another_stand_in():
    stages = FakeSource(1), CollectingSink()
    make_runner(*stages, live=True, on_miss="repeat")
    with pytest.raises(GraphError, match="got interpolate, but stage 'output' can only repeat"):
        make_runner(*stages, live=True, on_miss="interpolate")


def test_report_and_status_know_the_kinds_and_how_late_the_ticks_were():
    sink = StandInSink()
    runner = missed("passthrough", sink)
    found = runner.report().to_json()
    assert found["frames"]["passed_through"] >= 1
    assert found["lateness_ms"]["max"] == pytest.approx(90, rel=1e-3)  # due at 17, seen at 107


def test_look_at_the_clock_before_the_tick_is_no_tick():
    clock = ManualClock()
    runner = make_runner(FakeSource(1), CollectingSink(), live=True, clock=clock, latency_ms=10.0)
    loop = OutputLoop(runner._session)
    frame = Frame(0, 0, 0, 10 * MS, None, None, None, Params({}))
    loop.emit(Flight(frame, 1, 0))
    loop.tick()
    assert runner.report().lateness.count == 0
    clock.advance(13 * MS)
    loop.tick()
    lateness = runner.report().lateness
    assert (lateness.count, lateness.max) == (1, pytest.approx(3, rel=1e-3))


def test_yaml_says_what_stands_in():
    for kind in ("repeat", "passthrough", "interpolate"):
        runner = build_runner(load_config("test_pattern", [SetPath(f"on_miss={kind}")]))
        assert runner._session.settings.on_miss == kind
    assert load_config("demo").on_miss == "repeat"
    with pytest.raises(ConfigError, match="'repeat', 'passthrough' or 'interpolate'"):
        load_config("demo", [SetPath("on_miss=black")])
