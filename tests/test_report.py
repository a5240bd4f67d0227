import io
import json
from dataclasses import replace

import pytest
from fakes import CollectingSink, FakeCompute, FakeSource, make_runner, run
from rich.console import Console

from lsd.pipeline.clock import ManualClock
from lsd.pipeline.errors import StageError
from lsd.pipeline.report import render_table, summary

MS = 1_000_000


class Model(FakeCompute):
    """Takes 7 ms a frame (40 ms in the first ten) and says what it is."""

    def __init__(self, clock, facts=None):
        super().__init__("diffusion", self._work)
        self.clock = clock
        self.facts = facts or {"model": "tiny", "engine": "torch", "seed": 7}

    def describe(self):
        return self.facts

    def _work(self, frame, _):
        self.clock.advance((40 if frame.seq < 10 else 7) * MS)
        if frame.seq == 11:
            raise StageError("broken")
        if frame.seq == 12:
            self.context.counters["diffusion", "nan"] += 1
            return None
        return frame


def report_of(count, facts=None, **settings):
    clock = ManualClock()
    sink = CollectingSink()
    return run(FakeSource(count), Model(clock, facts), sink, clock=clock, **settings).report()


def test_json_has_the_keys_that_are_promised():
    found = report_of(30).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["frames"] == {
        "captured": 30,
        "emitted": 28,
        "repeated": 0,
        "passed_through": 0,
        "interpolated": 0,
        "dropped": {"skipped:diffusion": 1},
        "failed": 1,
        "in_flight": 0,
    }
    assert set(found["latency_ms"]) == {"p50", "p95", "p99", "max"}
    assert found["deadline"] == {"budget_ms": None, "hit_rate": None}
    assert set(found["stages"]) == {"capture", "diffusion", "output"}
    for stage in found["stages"].values():
        assert set(stage) == {"service_ms", "wait_ms", "frames"}
        assert set(stage["service_ms"]) == set(stage["wait_ms"]) == {"p50", "p95", "p99"}
    assert (found["model"], found["engine"], found["device"], found["seed"]) == (
        "tiny", "torch", "cpu", 7,
    )  # fmt: skip


def test_long_run_leaves_the_warmup_out_of_the_percentiles():
    report = report_of(30)
    diffusion = report.to_json()["stages"]["diffusion"]
    assert diffusion["service_ms"]["p99"] == pytest.approx(7, rel=1e-3)
    assert diffusion["frames"] == 30
    assert report.warmup_frames == 10


def test_short_run_counts_the_warmup():
    report = report_of(20)
    assert report.stages["diffusion"].service.p99 == pytest.approx(40, rel=1e-3)
    assert report.warmup_frames == 0


def test_hit_rate_counts_late_frames_as_missed():
    clock, sink = ManualClock(), CollectingSink()

    def work(frame, _):
        clock.advance((50 if frame.seq == 1 else 5) * MS)
        return frame

    source = FakeSource(4)
    runner = make_runner(source, FakeCompute(work=work), sink, live=True, clock=clock)
    one_at_a_time(runner, source)
    runner.start()
    assert runner.wait(10)
    report = runner.report()
    assert report.hit_rate == 0.75
    assert report.budget_ms == 40.0
    assert report.latency.max == pytest.approx(50, rel=1e-3)


def one_at_a_time(runner, source):
    """Make the source hand over a picture only when none is in flight."""
    read = source.read

    def read_when_empty():
        while runner.status().in_flight:
            pass
        return read()

    source.read = read_when_empty


def test_overhead_is_what_the_stages_did_not_use():
    clock = ManualClock()
    sink = CollectingSink(before=lambda frame: clock.advance(3 * MS))
    source = FakeSource(3)
    runner = make_runner(source, Model(clock), sink, live=True, clock=clock)
    one_at_a_time(runner, source)
    runner.start()
    assert runner.wait(10)
    report = runner.report()
    assert report.latency.max == pytest.approx(43, rel=1e-3)
    assert report.overhead.max == 0.0


def test_guards_are_told_by_stage_and_event():
    assert report_of(30).to_json()["guards"] == {"diffusion": {"nan": 1}}


def test_stages_own_facts_are_passed_on_and_hide_no_measurement():
    found = report_of(3, facts={"model": "m", "threads": 2, "frames": 99}).to_json()
    assert found["threads"] == 2
    assert found["frames"]["captured"] == 3
    assert found["engine"] is None


def test_first_stage_that_names_the_model_is_right():
    clock = ManualClock()
    second = Model(clock, {"model": "blend-net", "blend": "learned"})
    second.name = "blend"
    report = run(FakeSource(1), Model(clock), second, CollectingSink(), clock=clock).report()
    assert report.to_json()["model"] == "tiny"
    assert report.to_json()["blend"] == "learned"


def test_report_of_a_run_without_frames_is_all_there():
    found = report_of(0, live=True).to_json()
    assert found["frames"]["captured"] == 0
    assert found["fps"] == 0.0
    assert found["latency_ms"]["p50"] is None
    assert found["deadline"] == {"budget_ms": 40.0, "hit_rate": None}


def test_table_shows_every_stage_with_its_times_and_the_longest_bar():
    console = Console(file=io.StringIO(), width=120)
    console.print(render_table(report_of(30)))
    text = console.file.getvalue()
    line = next(line for line in text.splitlines() if "diffusion" in line)
    assert "7.00" in line
    assert "████████████████" in line
    assert "30 captured, 28 emitted, 1 dropped (skipped:diffusion), 1 failed" in text


def test_table_of_a_run_without_frames_has_no_numbers_to_show():
    console = Console(file=io.StringIO(), width=120)
    console.print(render_table(report_of(0)))
    assert "0 captured, 0 emitted" in console.file.getvalue()


def test_summary_of_a_live_run_tells_the_hit_rate_and_the_guards():
    clock = ManualClock()
    model = Model(clock)
    source = FakeSource(20)
    runner = make_runner(source, model, CollectingSink(), live=True, clock=clock)
    one_at_a_time(runner, source)
    runner.start()
    assert runner.wait(10)
    lines = summary(runner.report())
    assert "90.0% on time (budget 40 ms)" in lines
    assert "diffusion: nan 1" in lines


@pytest.mark.parametrize(
    ("counts", "has_failed"),
    [
        ({"captured": 8, "failed": 8}, True),
        ({"captured": 8, "failed": 3, "dropped": {"superseded": 5}}, True),
        ({"captured": 8, "dropped": {"superseded": 8}}, False),
        ({"captured": 8, "failed": 7, "emitted": 1}, False),
        ({"captured": 8, "failed": 7, "in_flight": 1}, False),
        ({"captured": 8, "failed": 7, "sent": 1}, False),
        ({"received": 8, "failed": 8}, True),
        ({}, False),
    ],
)
def test_a_run_without_a_frame_has_failed_if_failures_made_it_so(counts, has_failed):
    report = report_of(3)
    nothing = replace(report.counts, captured=0, emitted=0)
    ended = replace(report, counts=replace(nothing, **counts)).at_end()
    assert (ended.error is not None) == has_failed
    if has_failed:
        assert ended.error.startswith(f"nothing came out: {counts['failed']} of 8 frames failed")
    else:
        assert replace(ended, error="the card is lost").at_end().error == "the card is lost"
