"""Where a frame's milliseconds go: the parts add up to the whole."""

import pytest
from fakes import CollectingSink, FakeCompute, FakeSource, run
from hypothesis import given
from hypothesis import strategies as st
from recordings import make_trace, stream, streams

from lsd.pipeline.bench import breakdown

MS = 1_000_000


def frame(trace, seq, captured_ms, *, waited=2, capture=3, diffusion=20, blend=1, to_output=4):
    """Record a frame on its way; the output takes 2 ms, and reading took 10."""
    now = captured_ms
    trace.record(4, seq, (now - 10) * MS, (now - 10) * MS, now * MS)
    trace.admit(seq, now * MS, (now + 40) * MS)
    for place, wait, work in (
        (0, waited, capture), (1, 0, diffusion), (2, 0, blend), (3, to_output, 2),
    ):  # fmt: skip
        trace.record(place, seq, now * MS, (now + wait) * MS, (now + wait + work) * MS)
        now += wait + work


def test_live_a_frame_takes_from_capture_to_output_and_all_of_it_is_accounted_for():
    trace = make_trace()
    frame(trace, 0, 100)
    found = breakdown(trace.recording(), 0, is_flat_out=False)
    assert found.frames == 1
    assert found.whole.p50 == found.whole.mean_ms == 2 + 3 + 20 + 1 + 4 + 2
    assert {name: each.p50 for name, each in found.services.items()} == {
        "capture": 3, "diffusion": 20, "blend": 1, "output": 2,
    }  # fmt: skip
    assert {name: each.p50 for name, each in found.waits.items()} == {
        "capture": 2, "diffusion": 0, "blend": 0, "output": 4,
    }  # fmt: skip
    assert found.overhead.p50 == 6
    assert found.read.p50 == 10
    assert found.beside == ()
    assert found.ratio_to("diffusion") == 1.6
    assert found.share(found.services["diffusion"]) == 20 / 32


def test_flat_out_a_frame_takes_until_the_next_begins_and_the_output_works_beside():
    trace = make_trace()
    for seq, captured_ms in enumerate((100, 130, 190)):
        frame(trace, seq, captured_ms)
    found = breakdown(trace.recording(), 0, is_flat_out=True)
    assert found.frames == 2
    assert found.whole.mean_ms == (30 + 60) / 2
    assert found.overhead.mean_ms == (6 + 36) / 2  # capture, diffusion and blend take 24
    assert found.beside == ("output",)
    assert found.to_json()["stages"]["output"]["share"] is None


def test_parts_of_unlike_frames_add_up_by_their_means_and_not_by_their_medians():
    trace = make_trace()
    for seq, (work, waited) in enumerate(((10, 5), (20, 50), (60, 0))):
        frame(trace, seq, 1000 * seq, diffusion=work, waited=waited)
    found = breakdown(trace.recording(), 0, is_flat_out=False)
    parts = [*found.services.values(), found.overhead]
    assert sum(map(found.share, parts)) == pytest.approx(1)
    assert sum(part.p50 for part in parts) != found.whole.p50


def test_warmup_lost_frames_and_half_known_ones_are_left_out():
    trace = make_trace()
    for seq in range(4):
        frame(trace, seq, 100 * seq)
    trace.admit(4, 400 * MS, None)
    trace.record(0, 4, 400 * MS, 400 * MS, 401 * MS)
    trace.drop("skipped:diffusion", 4, 401 * MS)
    found = breakdown(trace.recording(), 2, is_flat_out=False)
    assert (found.frames, found.read.quantiles.count) == (2, 2)


def test_nothing_that_came_out_is_nothing_measured():
    found = breakdown(make_trace().recording(), 0, is_flat_out=False)
    assert found.frames == 0
    assert found.ratio_to("diffusion") is None
    assert found.to_json()["whole_ms"] == {"mean": 0.0, "p50": None, "p95": None, "p99": None}


def test_stage_that_is_not_there_has_no_ratio():
    trace = make_trace()
    frame(trace, 0, 100)
    found = breakdown(trace.recording(), 0, is_flat_out=False)
    assert found.ratio_to(None) is None
    assert found.ratio_to("recall") is None


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_ring_that_was_lapped_leaves_whole_frames_only(seed, capacity):
    made = stream(seed, 30, capacity=capacity)
    found = breakdown(made.trace.recording(), 0, is_flat_out=False)
    assert found.frames <= min(len(made.emitted), capacity // 5)


def test_work_on_a_card_is_what_the_ratio_is_to():
    trace = make_trace()
    for seq in range(2):
        frame(trace, seq, 100 * seq)
        trace.on_card("diffusion", seq, 100 * seq * MS, (100 * seq + 16) * MS)
    trace.on_card("diffusion", 2, 300 * MS, 390 * MS)  # of a frame that did not come out
    found = breakdown(trace.recording(), 1, is_flat_out=False)
    assert {name: each.quantiles.count for name, each in found.on_card.items()} == {"diffusion": 1}
    assert found.on_card["diffusion"].p50 == 16
    assert found.ratio_to("diffusion") == 2
    stages = found.to_json()["stages"]
    assert stages["diffusion"]["on_card_ms"]["p50"] == 16
    assert "on_card_ms" not in stages["blend"]


def test_ratio_is_that_of_the_medians():
    trace = make_trace()
    for seq, waited in enumerate((0, 0, 90)):
        frame(trace, seq, 1000 * seq, waited=waited)
    assert breakdown(trace.recording(), 0, is_flat_out=False).ratio_to("diffusion") == 1.5


@given(streams)
def test_every_frame_that_came_out_is_measured(made):
    assert breakdown(made.trace.recording(), 0, is_flat_out=False).frames == len(made.emitted)


@pytest.mark.parametrize("live", [True, False])
def test_of_a_run_the_overhead_is_what_frames_waited_to_the_nanosecond(live):
    runner = run(FakeSource(30), FakeCompute("work"), FakeCompute(), CollectingSink(), live=live)
    found = breakdown(runner.trace.recording(), 0, is_flat_out=False)
    assert found.frames == runner.report().counts.emitted
    waited = sum(each.mean_ms for each in found.waits.values())
    assert found.overhead.mean_ms == pytest.approx(waited, abs=1e-6)
