import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import check_events, counters_of, make_trace, stream, streams

from lsd.pipeline.perfetto import trace_events, trace_file


def events_of(trace, *phases):
    """Return a trace's events of these phases; all without any."""
    found = trace_events(trace.recording(), "livesd test")
    return [event for event in found if not phases or event["ph"] in phases]


def one_frame():
    """Return the trace of frame 7: read 0 to 2 us, capture 3 to 4, output 9 to 9.5."""
    trace = make_trace()
    trace.record(4, 7, 100_000, 100_000, 102_000)
    trace.admit(7, 102_000, None)
    trace.record(0, 7, 102_000, 103_000, 104_000)
    trace.record(3, 7, 104_000, 109_000, 109_500)
    return trace


def test_span_is_a_complete_event_with_its_frame_wait_and_service():
    assert events_of(one_frame(), "X")[2] == {
        "ph": "X",
        "name": "output",
        "cat": "stage",
        "ts": 9.0,
        "pid": 1,
        "tid": 3,
        "dur": 0.5,
        "args": {"frame": 7, "wait_ms": 0.005, "service_ms": 0.0005},
    }


def test_times_are_microseconds_since_the_earliest_record():
    assert [event["ts"] for event in events_of(one_frame(), "X")] == [0.0, 3.0, 9.0]


def test_nanoseconds_survive_a_machine_that_has_been_up_for_years():
    trace = make_trace()
    trace.record(0, 0, 0, 10**17, 10**17 + 1)
    trace.record(0, 1, 0, 10**17 + 12_345, 10**17 + 12_346)
    assert [(event["ts"], event["dur"]) for event in events_of(trace, "X")] == [
        (0.0, 0.001),
        (12.345, 0.001),
    ]


def test_each_thread_has_a_named_track_in_the_order_of_a_frame():
    names = events_of(one_frame(), "M")
    told = {(event["name"], event["tid"]): event["args"] for event in names}
    assert told == {
        ("process_name", 0): {"name": "livesd test"},
        ("thread_name", 1): {"name": "capture"},
        ("thread_sort_index", 1): {"sort_index": 1},
        ("thread_name", 2): {"name": "compute"},
        ("thread_sort_index", 2): {"sort_index": 2},
        ("thread_name", 3): {"name": "output"},
        ("thread_sort_index", 3): {"sort_index": 3},
    }


def test_reading_output_and_all_between_lie_on_a_track_each():
    trace = make_trace()
    for place in range(5):
        trace.record(place, 0, place, place, place)
    tracks = {event["name"]: event["tid"] for event in events_of(trace, "X")}
    assert tracks == {"capture.read": 1, "capture": 2, "diffusion": 2, "blend": 2, "output": 3}


def test_flow_leads_from_a_frames_first_span_through_the_others_to_its_last():
    flow = events_of(one_frame(), "s", "t", "f")
    assert [(event["ph"], event["ts"], event["tid"]) for event in flow] == [
        ("s", 0.0, 1), ("t", 3.0, 2), ("f", 9.0, 3),
    ]  # fmt: skip
    assert {(event["id"], event["cat"], event["name"]) for event in flow} == {(7, "frame", "frame")}
    assert [event.get("bp") for event in flow] == [None, None, "e"]


def test_frame_with_a_single_span_has_no_flow():
    trace = make_trace()
    trace.record(4, 0, 0, 0, 5)
    assert events_of(trace, "s", "t", "f") == []


@pytest.mark.parametrize(
    ("reason", "track"), [("superseded", 1), ("skipped:blend", 2), ("skipped:output", 3)]
)
def test_drop_is_an_instant_on_the_track_that_gave_the_frame_up(reason, track):
    trace = make_trace()
    trace.record(4, 3, 1_000, 1_000, 2_000)
    trace.drop(reason, 3, 5_000)
    assert events_of(trace, "i") == [
        {
            "ph": "i",
            "name": f"dropped: {reason}",
            "cat": "drop",
            "s": "t",
            "ts": 4.0,
            "pid": 1,
            "tid": track,
            "args": {"frame": 3, "reason": reason},
        }
    ]


def test_failure_and_repeat_are_instants_where_and_when_they_happened():
    trace = make_trace()
    trace.fail("diffusion", 4, 1_000_000)
    trace.repeat(4_000_000, 1_500_000)
    trace.repeat(5_000_000, 5_000_000, "passthrough")
    trace.repeat(6_000_000, 6_000_000, "interpolate")
    failure, repeat, *others = events_of(trace, "i")
    assert [each["name"] for each in others] == ["passed through", "interpolated"]
    assert (failure["name"], failure["cat"]) == ("failed: diffusion", "failure")
    assert (failure["ts"], failure["tid"]) == (0.0, 2)
    assert failure["args"] == {"frame": 4, "stage": "diffusion"}
    assert (repeat["name"], repeat["cat"]) == ("repeated", "repeat")
    assert (repeat["ts"], repeat["tid"], repeat["args"]) == (3000.0, 3, {"late_ms": 2.5})


def test_depth_of_a_link_is_a_counter_of_its_name():
    trace = make_trace()
    trace.depth(1, 2_000, 1)
    trace.depth(1, 6_000, 0)
    assert events_of(trace, "C") == [
        {"ph": "C", "name": "waiting for output", "pid": 1, "ts": ts, "args": {"frames": frames}}
        for ts, frames in ((0.0, 1), (4.0, 0))
    ]


def test_rung_is_a_counter_and_what_is_unusual_about_it_an_instant():
    trace = make_trace()
    trace.rungs = ("256x256, 1 step", "reuse")
    trace.plan(0, 4, "level", 2_000)
    trace.plan(1, 5, "reused", 6_000)
    assert events_of(trace, "C") == [
        {"ph": "C", "name": "rung", "pid": 1, "ts": ts, "args": {"rung": rung}}
        for ts, rung in ((0.0, 0), (4.0, 1))
    ]
    (instant,) = events_of(trace, "i")
    assert (instant["name"], instant["cat"], instant["tid"], instant["ts"]) == (
        "reused", "plan", 2, 4.0,
    )  # fmt: skip
    assert instant["args"] == {"frame": 5, "rung": 1, "made at": "reuse"}


def test_frame_is_in_flight_from_its_capture_until_it_is_out_lost_or_given_up():
    trace = make_trace()
    for seq in range(4):
        trace.admit(seq, seq * 1_000, None)
    trace.drop("superseded", 0, 4_000)
    trace.fail("blend", 1, 5_000)
    trace.record(3, 2, 6_000, 6_000, 7_000)
    counts = [
        (event["ts"], event["args"]["frames"])
        for event in events_of(trace, "C")
        if event["name"] == "in flight"
    ]
    assert counts == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 3), (5, 2), (7, 1)]


def test_frame_whose_beginning_was_overwritten_is_not_counted_out():
    trace = make_trace()
    trace.drop("superseded", 0, 1_000)
    trace.admit(1, 2_000, None)
    assert counters_of(events_of(trace)) == {"in flight": [1]}


def test_trace_of_nothing_names_its_tracks_only():
    assert {event["ph"] for event in events_of(make_trace())} == {"M"}


def test_file_is_json_with_its_events_under_the_formats_key():
    written = json.loads(json.dumps(trace_file(one_frame().recording(), "livesd test")))
    assert written["traceEvents"] == events_of(one_frame())
    assert written["displayTimeUnit"] == "ms"


# Whatever happened to the frames


@given(streams)
def test_events_tell_what_became_of_every_frame(made):
    events = events_of(made.trace)
    check_events(events)
    instants = Counter(event["cat"] for event in events if event["ph"] == "i")
    reasons = Counter(event["args"]["reason"] for event in events if event.get("cat") == "drop")
    assert reasons == made.dropped
    assert instants["failure"] == made.failed
    assert instants["repeat"] == made.repeated
    starts = Counter(event["id"] for event in events if event["ph"] == "s")
    finishes = Counter(event["id"] for event in events if event["ph"] == "f")
    for seq in made.emitted:
        assert starts[seq] == finishes[seq] == 1
    out = len(made.emitted) + sum(made.dropped.values()) + made.failed
    assert (counters_of(events)["in flight"] or [0])[-1] == made.captured - out


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_events_hold_together_when_the_ring_has_overwritten_its_oldest(seed, capacity):
    check_events(events_of(stream(seed, 30, capacity=capacity).trace))
