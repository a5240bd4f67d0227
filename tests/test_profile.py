import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import BUDGET_NS, make_trace, stream, streams

from lsd.pipeline.profile import Quantiles, profile_of, quantiles

MS = 1_000_000
durations = st.lists(st.integers(0, 10**10), min_size=1, max_size=3000)


def values_of(found):
    return found.p50, found.p95, found.p99, found.p999


def one_frame(trace, seq, captured_ns, *, budget_ns=40 * MS):
    """Record a frame: read for 10 ms; it waits 2 ms for capture, which takes 3; output at 20."""
    trace.record(4, seq, captured_ns - 10 * MS, captured_ns - 10 * MS, captured_ns)
    trace.admit(seq, captured_ns, None if budget_ns is None else captured_ns + budget_ns)
    trace.record(0, seq, captured_ns, captured_ns + 2 * MS, captured_ns + 5 * MS)
    trace.record(3, seq, captured_ns + 5 * MS, captured_ns + 19 * MS, captured_ns + 20 * MS)


def test_stage_has_waits_services_ages_and_slacks():
    trace = make_trace()
    one_frame(trace, 0, 100 * MS)
    stage = profile_of(trace.recording()).stages["capture"]
    assert (stage.wait.p50, stage.service.p50, stage.age.p50, stage.slack.p50) == (2, 3, 5, 35)


def test_reading_is_told_apart_from_the_stages():
    trace = make_trace()
    one_frame(trace, 0, 100 * MS)
    profile = profile_of(trace.recording())
    assert list(profile.stages) == ["capture", "diffusion", "blend", "output"]
    assert profile.read == Quantiles(1, 10, 10, 10, 10)


def test_gap_lies_between_two_outputs_repeats_included():
    trace = make_trace()
    for seq, captured_ms in enumerate((100, 140, 240)):
        one_frame(trace, seq, captured_ms * MS)
    trace.repeat(205 * MS, 200 * MS)
    gap = profile_of(trace.recording()).gap
    assert (gap.count, gap.p50, gap.p999) == (3, 45, 55)  # out at 120, 160, 205, 260


def test_file_to_file_there_is_no_slack():
    trace = make_trace()
    one_frame(trace, 0, 100 * MS, budget_ns=None)
    stage = profile_of(trace.recording()).stages["output"]
    assert stage.slack == Quantiles(0, None, None, None, None)
    assert stage.age.p50 == 20


def test_late_frame_has_a_negative_slack():
    trace = make_trace()
    one_frame(trace, 0, 100 * MS, budget_ns=15 * MS)
    assert profile_of(trace.recording()).stages["output"].slack.p50 == -5


def test_stage_that_served_nothing_has_no_figures():
    stage = profile_of(make_trace().recording()).stages["blend"]
    assert stage.service == stage.wait == stage.age == Quantiles(0, None, None, None, None)


def test_frames_of_the_warm_up_are_left_out_but_for_the_gaps():
    trace = make_trace()
    for seq in range(5):
        one_frame(trace, seq, (100 + 40 * seq) * MS)
    profile = profile_of(trace.recording(), warmup_frames=3)
    output = profile.stages["output"]
    assert [each.count for each in (output.wait, output.service, output.age, output.slack)] == [
        2, 2, 2, 2,
    ]  # fmt: skip
    assert (profile.read.count, profile.gap.count) == (2, 4)


def test_span_whose_admission_was_overwritten_has_no_age():
    trace = make_trace()
    trace.record(1, 0, 1 * MS, 2 * MS, 4 * MS)
    stage = profile_of(trace.recording()).stages["diffusion"]
    assert (stage.service.count, stage.age.count, stage.slack.count) == (1, 0, 0)


def test_json_has_milliseconds_under_the_names_of_their_percentiles():
    trace = make_trace()
    one_frame(trace, 0, 100 * MS)
    told = profile_of(trace.recording()).to_json()
    assert told["stages"]["output"] == {
        "frames": 1,
        "wait_ms": dict.fromkeys(("p50", "p95", "p99", "p99.9"), 14.0),
        "service_ms": dict.fromkeys(("p50", "p95", "p99", "p99.9"), 1.0),
        "age_ms": dict.fromkeys(("p50", "p95", "p99", "p99.9"), 20.0),
        "slack_ms": dict.fromkeys(("p50", "p95", "p99", "p99.9"), 20.0),
    }
    assert told["read_ms"]["p50"] == 10
    assert told["gap_ms"] == dict.fromkeys(("p50", "p95", "p99", "p99.9"))


def test_percentiles_are_the_nearest_ranks():
    found = quantiles(n * MS for n in range(2000, 0, -1))
    assert found == Quantiles(2000, 1000, 1900, 1980, 1998)


@given(durations)
def test_percentile_is_the_least_measured_value_that_so_many_keep_to(measured):
    found = quantiles(measured)
    assert found.count == len(measured)
    for permille, value in zip((500, 950, 990, 999), values_of(found), strict=True):
        worst_ns = round(value * MS)
        assert worst_ns in measured
        assert 1000 * sum(each <= worst_ns for each in measured) >= permille * len(measured)
        assert 1000 * sum(each < worst_ns for each in measured) < permille * len(measured)


@given(streams)
def test_slack_is_what_the_age_leaves_of_the_budget_at_every_percentile(made):
    recording = made.trace.recording()
    is_live = any(each.deadline_ns is not None for each in recording.admissions)
    for stage in profile_of(recording).stages.values():
        assert stage.slack.count == (stage.age.count if is_live else 0)
        if stage.slack.count:
            for age, slack in zip(values_of(stage.age), values_of(stage.slack), strict=True):
                assert age + slack == pytest.approx(BUDGET_NS / MS, abs=1e-6)


@given(streams)
def test_output_has_served_what_was_emitted_and_gaps_lie_between(made):
    profile = profile_of(made.trace.recording())
    went_out = len(made.emitted) + made.repeated
    assert profile.stages["output"].service.count == len(made.emitted)
    assert profile.gap.count == max(0, went_out - 1)
    assert profile.read.count == made.captured


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_profile_of_a_ring_that_was_lapped_has_no_negative_time(seed, capacity):
    profile = profile_of(stream(seed, 30, capacity=capacity).trace.recording())
    for stage in profile.stages.values():
        for found in (stage.wait, stage.service, stage.age):
            assert all(value is None or value >= 0 for value in values_of(found))
