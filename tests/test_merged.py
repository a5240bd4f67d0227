"""One report of a run in several workers: every frame booked once, nothing better than it was."""

import dataclasses

import pytest

from lsd.pipeline.budget import LadderReport
from lsd.pipeline.merged import Crossed, WorkerReport, merge


def told(names, restarts=0, **report):
    frames = {"dropped": {}, "failed": 0, "repeated": 0, **report.pop("frames", {})}
    return WorkerReport(names, {"frames": frames, "device": "cpu", **report}, restarts)


CAMERA = told(
    ["capture"], frames={"dropped": {"superseded": 3}}, read_ms={"p50": 1, "p95": 2, "p99": 3}
)
MODEL = told(["diffusion"], frames={"failed": 2}, engine="torch", stages={
    "diffusion": {"frames": 95, "service_ms": {"p50": 9.0, "p95": 10.0, "p99": 11.0}}
})  # fmt: skip
SCREEN = told(
    ["output"],
    frames={"repeated": 4},
    fps=25.0,
    latency_ms={"p50": 20.0, "p95": 30.0, "p99": 35.0, "max": 41.0},
)


def test_counts_are_sums_and_percentiles_come_from_who_has_them():
    report = merge([CAMERA, MODEL, SCREEN], Crossed(100, 95, on_time=90), budget_ms=40.0)
    counts = report.counts
    assert (counts.captured, counts.emitted, counts.repeated, counts.failed) == (100, 95, 4, 2)
    assert counts.dropped == {"superseded": 3}
    assert counts.in_flight == 0
    assert counts.fps == pytest.approx(25.0, abs=0.01)
    assert (report.latency.p50, report.latency.max, report.read.p99) == (20.0, 41.0, 3)
    assert report.stages["diffusion"].service.p95 == 10.0
    assert report.stages["capture"].frames == 0
    assert report.facts == {"engine": "torch"}
    assert report.device == "cpu"


def test_late_frames_are_misses_those_of_the_warm_up_too():
    report = merge([CAMERA, MODEL, SCREEN], Crossed(100, 95, on_time=90), budget_ms=40.0)
    assert report.hit_rate == 0.9
    assert (
        merge([CAMERA, MODEL, SCREEN], Crossed(100, 95, on_time=90), budget_ms=None).hit_rate
        is None
    )


def test_a_worker_that_was_alone_and_never_died_leaves_its_warm_up_out():
    alone = told(["capture", "output"], on_time=60, warmup_frames=20)
    assert merge([alone], Crossed(100, 95, on_time=64), budget_ms=40.0).hit_rate == 60 / 80
    again = WorkerReport(alone.stages, alone.report, restarts=1)
    assert merge([again], Crossed(100, 95, on_time=64), budget_ms=40.0).hit_rate == 64 / 100


def test_what_a_dead_process_had_is_lost_and_otherwise_still_on_its_way():
    late = merge([CAMERA, MODEL, SCREEN], Crossed(110, 95), budget_ms=40.0).counts
    assert (late.in_flight, late.dropped) == (10, {"superseded": 3})
    died = WorkerReport(MODEL.stages, MODEL.report, restarts=1)
    lost = merge([CAMERA, died, SCREEN], Crossed(110, 95), budget_ms=40.0).counts
    assert (lost.in_flight, lost.dropped) == (0, {"superseded": 3, "worker_died": 10})


def test_what_dead_processes_had_dropped_keeps_its_reason():
    camera = WorkerReport(
        CAMERA.stages, CAMERA.report, restarts=1, dropped_before={"superseded": 7}
    )
    counts = merge([camera, MODEL, SCREEN], Crossed(110, 95), budget_ms=40.0).counts
    assert counts.dropped == {"superseded": 10, "worker_died": 3}
    model = WorkerReport(MODEL.stages, MODEL.report, restarts=1, failed_before=3)
    counts = merge([camera, model, SCREEN], Crossed(110, 95), budget_ms=40.0).counts
    assert (counts.failed, counts.dropped) == (5, {"superseded": 10})


def test_a_worker_that_told_nothing_leaves_a_report_without_it():
    report = merge(
        [WorkerReport(["capture"], {}), MODEL, SCREEN], Crossed(100, 95, on_time=90), budget_ms=40.0
    )
    assert report.read.count == 0
    assert report.counts.dropped == {"worker_died": 3}


def test_before_the_end_what_nobody_accounts_for_is_in_flight_whoever_died():
    died = WorkerReport(MODEL.stages, MODEL.report, restarts=1)
    so_far = merge([CAMERA, died, SCREEN], Crossed(110, 95), budget_ms=40.0, is_over=False)
    assert (so_far.counts.in_flight, so_far.counts.dropped) == (10, {"superseded": 3})


def test_the_ladder_and_the_sums_of_durations_come_through():
    ladder = LadderReport(("256x256", "reuse"), (21.5, 4.0), 1, False, (7, 3), {"level": 10}, 2, 1)
    model = told(["diffusion"], ladder=ladder.to_json(), stages={
        "diffusion": {"frames": 9, "service_ms": {"p50": 9.0, "count": 12, "sum": 110.5}}
    })  # fmt: skip
    report = merge([CAMERA, model, SCREEN], Crossed(100, 95, on_time=90), budget_ms=40.0)
    assert report.ladder == ladder
    service = report.stages["diffusion"].service
    assert (service.total_count, service.total_ms) == (12, 110.5)
    uncalibrated = dataclasses.replace(ladder, costs_ms=None)
    assert LadderReport.from_json(uncalibrated.to_json()) == uncalibrated
