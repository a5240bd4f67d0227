"""The table of streams a machine: what is counted, and that the ways differ in what they say."""

from __future__ import annotations

import os
import sys

import pytest

from lsd.lab.instances import Cell, deployment_of, rows, stream_of

MS = 1_000_000
PERIOD, BUDGET = 40 * MS, 40 * MS


def frames(latencies_ms):
    """One frame each period from 0 on; None: it was dropped."""
    return [
        (
            seq,
            seq * PERIOD,
            None if ms is None else seq * PERIOD + ms * MS,
            seq * PERIOD + BUDGET,
        )
        for seq, ms in enumerate(latencies_ms)
    ]


def test_only_frames_captured_between_the_moments_count():
    left = frames([900] * 25 + [10] * 25 + [900] * 25)
    stream = stream_of(left, 25 * PERIOD, 50 * PERIOD, 340.0, 0.5)
    assert (stream.fps, stream.hit_rate, stream.p50_ms) == (25.0, 1.0, 10.0)


def test_late_and_dropped_frames_are_not_on_time_and_dropped_ones_not_in_fps():
    stream = stream_of(frames([10, 41, None, 40]), 0, 4 * PERIOD, 340.0, 0.5)
    assert stream.hit_rate == 0.5
    assert stream.fps == 3 / 0.16
    assert (stream.p50_ms, stream.p99_ms) == (40.0, 41.0)


def test_a_stream_without_pictures_has_no_latency():
    stream = stream_of(frames([None, None]), 0, 2 * PERIOD, 340.0, 0.5)
    assert (stream.fps, stream.hit_rate, stream.p50_ms) == (0.0, 0.0, None)
    assert rows([Cell(1, "pinned", "torch", [stream])])[0]["p50 ms"] == "-"


def test_a_row_tells_the_worst_streams_latency_and_hit_rate():
    good, bad = (stream_of(frames([ms] * 4), 0, 4 * PERIOD, 300.0, 0.5) for ms in (10, 50))
    (row,) = rows([Cell(2, "shared", "torch", [good, bad])])
    assert (row["streams"], row["cores"]) == ("2", "shared")
    assert (row["fps"], row["on time"], row["p50 ms"]) == ("25.0", "0%", "50.0")


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
@pytest.mark.parametrize(
    ("way", "is_pinned", "is_told"),
    [("pinned", True, True), ("shared", False, True), ("each all", False, False)],
)
def test_each_way_says_what_it_means(way, is_pinned, is_told):
    deployment = deployment_of("multi_process", 2, way, "torch")
    for fd in deployment.fds:
        os.close(fd)
    assert [spec.instance for spec in deployment.specs] == ["1", "2"]
    assert all((spec.cores is not None) == is_pinned for spec in deployment.specs)
    assert all(("OMP_NUM_THREADS" in spec.env) == is_told for spec in deployment.specs)
    assert all("lsd.lab.instance_worker" in spec.argv for spec in deployment.specs)
