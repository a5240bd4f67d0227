"""What `python -m lsd.lab.budget` makes of a run's records; the runs themselves take a minute."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from lsd.lab import budget
from lsd.lab.budget_plot import drawn
from lsd.lab.budget_runs import Observed, Slow, _figures, _frames, _return_s, quiet
from lsd.pipeline.config import load_config
from lsd.pipeline.trace import Trace

MS, S = 1_000_000, 1_000_000_000
RUNGS = ("256x256, 1 step", "reuse")


def recording():
    """Return four frames 40 ms apart: on time, late, dropped, reused; a repeat for the third."""
    trace = Trace(["capture", "output", "capture.read"], 64, reasons=["late_predicted"])
    trace.rungs = RUNGS
    for seq, (latency_ms, place) in enumerate(((20, 0), (50, 0), (None, None), (10, 1))):
        at_ns = S + seq * 40 * MS
        trace.admit(seq, at_ns, at_ns + 40 * MS)
        if latency_ms is None:
            trace.drop("late_predicted", seq, at_ns)
            trace.repeat(at_ns + 45 * MS, at_ns + 40 * MS)
            continue
        trace.plan(place, seq, "level", at_ns + MS)
        trace.record(1, seq, at_ns, at_ns, at_ns + latency_ms * MS)
    return trace.recording()


def test_figures_are_of_the_frames_that_were_captured_in_a_part():
    found = _figures(recording(), S, (0.0, 0.2), RUNGS)
    assert (found.captured, found.hit_rate, found.repeats) == (4, 0.5, 1)
    assert (found.fps, found.cadence_hz) == (15.0, 20.0)
    assert (found.latency_p50_ms, found.latency_p99_ms) == (20.0, 50.0)
    assert found.rungs == {RUNGS[0]: pytest.approx(2 / 3), RUNGS[1]: pytest.approx(1 / 3)}
    first = _figures(recording(), S, (0.0, 0.03), RUNGS)
    assert (first.captured, first.hit_rate, first.repeats) == (1, 1.0, 0)


def test_part_without_frames_has_no_latency():
    found = _figures(recording(), S, (5.0, 6.0), RUNGS)
    assert (found.captured, found.hit_rate, found.latency_p50_ms, found.rungs) == (0, 0.0, None, {})


def test_frames_have_their_time_latency_and_rung():
    assert list(_frames(recording(), S)) == [
        (0.0, 20.0, 0), (0.04, 50.0, 0), (0.08, None, None), (0.12, 10.0, 1),
    ]  # fmt: skip


def places(*spans):
    """Return frames at 25 Hz: (seconds, rung) one after the other."""
    numbers = [place for seconds, place in spans for _ in range(round(seconds * 25))]
    return [(n / 25, 20.0, place) for n, place in enumerate(numbers)]


def test_stream_is_back_when_it_stays_for_a_second_where_it_stood_before():
    frames = places((4, 0), (4, 2), (1, 2), (0.6, 0), (1, 1), (3, 0))
    assert _return_s(frames, (4.0, 8.0)) == pytest.approx(2.6, abs=0.05)


def test_stream_that_does_not_come_back_has_no_time():
    assert _return_s(places((4, 0), (8, 2)), (4.0, 8.0)) is None
    assert _return_s([], (4.0, 8.0)) is None


def observed():
    figures = _figures(recording(), S, (0.0, 0.2), RUNGS)
    frames = list(_frames(recording(), S))
    return Observed({"alone": figures}, 1.0, frames, (0.05, 0.1), RUNGS, (20.0, 2.0), 1.5)


def test_every_figure_is_the_median_of_the_rounds():
    one = observed()
    slow = replace(one, parts={"alone": replace(one.parts["alone"], hit_rate=0.1, repeats=7)})
    fast = replace(one, parts={"alone": replace(one.parts["alone"], hit_rate=0.9)}, start_s=9.5)
    rounds = [(each, each, each) for each in (slow, one, fast)]
    result = budget._result(rounds, budget.Machine.here())
    assert result["parts"]["alone"]["hit_rate"] == 0.5
    assert result["parts"]["alone"]["repeats"] == 1
    assert (result["return_s"], result["start_s"]) == (1.0, 1.5)
    lost = replace(one, return_s=None)
    assert budget._result([(one, lost, one), rounds[0]], budget.Machine.here())["return_s"] is None


def test_drawing_is_svg_with_a_mark_for_each_frame_and_the_budget():
    root = ElementTree.fromstring(drawn(observed(), 40.0))
    kinds = [each.get("class") for each in root.iter()]
    assert kinds.count("lost") == 1  # the dropped one
    assert kinds.count("frame") == 3 + 3  # a point and a rung each
    assert kinds.count("load") == 2
    assert "budget 40 ms" in [each.text for each in root.iter()]


def test_observed_pipeline_never_ends_and_writes_nothing():
    config = quiet(load_config("demo"))
    assert config.stages["capture"].loop
    assert config.stages["output"].outputs == ["null://"]


def test_slow_stage_takes_no_part_in_a_ladder():
    assert not hasattr(Slow("slow"), "ways")
