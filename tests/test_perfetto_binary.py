"""Perfetto's own format says what the JSON says; read back with the format's own messages."""

from collections import Counter

import pytest
from hypothesis import given
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent
from recordings import make_trace, streams

from lsd.pipeline.perfetto import timed_events, trace_events
from lsd.pipeline.perfetto_binary import trace_bytes


def read_back(recording):
    """Return (descriptors by uuid, packets with events in order), after checking all packets."""
    trace = Trace.FromString(trace_bytes(recording, "livesd test"))
    assert trace.packet[0].sequence_flags == TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    assert {packet.trusted_packet_sequence_id for packet in trace.packet} == {1}
    descriptors = [p.track_descriptor for p in trace.packet if p.HasField("track_descriptor")]
    events = [packet for packet in trace.packet if packet.HasField("track_event")]
    assert len(descriptors) + len(events) == len(trace.packet)
    by_uuid = {each.uuid: each for each in descriptors}
    assert len(by_uuid) == len(descriptors), "every track has a number of its own"
    assert all(packet.track_event.track_uuid in by_uuid for packet in events)
    times = [packet.timestamp for packet in events]
    assert times == sorted(times)
    return by_uuid, events


def slices(events):
    """Return (track, begin packet, end time) of all slices; each closes the one that is open."""
    open_on, found = {}, []
    for packet in events:
        event = packet.track_event
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in open_on, "a thread does one thing at a time"
            open_on[event.track_uuid] = packet
        elif event.type == TrackEvent.TYPE_SLICE_END:
            begin = open_on.pop(event.track_uuid)
            found.append((event.track_uuid, begin, packet.timestamp))
    assert not open_on
    return found


def annotations(event):
    return {a.name: getattr(a, a.WhichOneof("value")) for a in event.debug_annotations}


def test_tracks_are_the_threads_of_one_process():
    trace = make_trace()
    trace.depth(0, 5, 2)
    by_uuid, _ = read_back(trace.recording())
    process = next(each for each in by_uuid.values() if each.HasField("process"))
    assert process.process.process_name == "livesd test"
    rest = [each for each in by_uuid.values() if each is not process]
    assert {each.parent_uuid for each in rest} == {process.uuid}
    ranks = [each.sibling_order_rank for each in rest]
    assert ranks == sorted(set(ranks)), "they lie in this order"
    threads = [each.thread for each in rest if each.HasField("thread")]
    assert [each.thread_name for each in threads] == ["capture", "compute", "output"]
    assert {each.pid for each in threads} == {process.process.pid}
    assert [each.name for each in rest if each.HasField("counter")] == ["waiting for compute"]


def test_span_is_a_slice_with_what_it_is_about():
    trace = make_trace()
    trace.record(1, 7, 1_000_000, 3_000_000, 8_500_000)
    by_uuid, events = read_back(trace.recording())
    ((track, begin, end_ns),) = slices(events)
    assert by_uuid[track].thread.thread_name == "compute"
    assert (begin.timestamp, end_ns) == (3_000_000, 8_500_000)
    assert (begin.track_event.name, list(begin.track_event.categories)) == ("diffusion", ["stage"])
    assert annotations(begin.track_event) == {"frame": 7, "wait_ms": 2.0, "service_ms": 5.5}
    assert not begin.track_event.flow_ids, "one span alone flows nowhere"


def test_work_on_a_card_has_a_track_of_its_own():
    trace = make_trace()
    trace.on_card("blend", 7, 3_000_000, 8_500_000)
    by_uuid, events = read_back(trace.recording())
    ((track, begin, end_ns),) = slices(events)
    assert by_uuid[track].thread.thread_name == "card"
    assert (begin.timestamp, end_ns, begin.track_event.name) == (3_000_000, 8_500_000, "blend")
    assert not begin.track_event.flow_ids


def test_frame_flows_from_span_to_span_and_ends_in_the_last():
    trace = make_trace()
    for place, start in ((4, 0), (0, 10), (1, 20), (3, 30)):
        trace.record(place, 0, start, start, start + 5)
    _, events = read_back(trace.recording())
    begins = [begin.track_event for _, begin, _ in slices(events)]
    assert [list(each.flow_ids) for each in begins] == [[1], [1], [1], []]
    assert [list(each.terminating_flow_ids) for each in begins] == [[], [], [], [1]]


def test_spans_that_meet_or_take_no_time_do_not_nest():
    trace = make_trace()
    for place, start, end in ((0, 0, 10), (1, 10, 10), (2, 10, 20)):
        trace.record(place, 0, start, start, end)
    _, events = read_back(trace.recording())
    assert [begin.track_event.name for _, begin, _ in slices(events)] == [
        "capture", "diffusion", "blend",
    ]  # fmt: skip


def test_instants_and_counters_are_where_and_when_they_were():
    trace = make_trace()
    trace.drop("superseded", 3, 40)
    trace.repeat(60, 50, "interpolate")
    trace.depth(1, 70, 4)
    by_uuid, events = read_back(trace.recording())
    drop, repeat, depth = events
    assert (drop.timestamp, drop.track_event.name) == (40, "dropped: superseded")
    assert by_uuid[drop.track_event.track_uuid].thread.thread_name == "capture"
    assert annotations(drop.track_event) == {"frame": 3, "reason": "superseded"}
    assert (repeat.timestamp, repeat.track_event.name) == (60, "interpolated")
    assert annotations(repeat.track_event) == {"late_ms": 1e-5}
    assert by_uuid[depth.track_event.track_uuid].name == "waiting for output"
    assert (depth.timestamp, depth.track_event.counter_value) == (70, 4)


def test_empty_trace_is_a_file_with_its_tracks():
    by_uuid, events = read_back(make_trace().recording())
    assert (len(by_uuid), events) == (4, [])


@given(streams)
def test_it_says_what_the_json_says(made):
    recording = made.trace.recording()
    by_uuid, events = read_back(recording)
    told = trace_events(recording, "livesd test")
    zero_ns = timed_events(recording)[0]["ts"] if timed_events(recording) else 0

    def us(at_ns):
        return (at_ns - zero_ns) / 1000

    found, expected = Counter(), Counter()
    for track, begin, end_ns in slices(events):
        event = begin.track_event
        flow = "t" if event.flow_ids else "f" if event.terminating_flow_ids else None
        found["X", event.name, track, us(begin.timestamp), (end_ns - begin.timestamp) / 1000] += 1
        if flow:
            ids = [*event.flow_ids, *event.terminating_flow_ids]
            found["flow", flow, ids[0] - 1, track, us(begin.timestamp)] += 1
    for packet in events:
        event = packet.track_event
        if event.type == TrackEvent.TYPE_INSTANT:
            found["i", event.name, event.track_uuid, us(packet.timestamp)] += 1
        elif event.type == TrackEvent.TYPE_COUNTER:
            name = by_uuid[event.track_uuid].name
            found["C", name, us(packet.timestamp), event.counter_value] += 1
    for each in told:
        if each["ph"] == "X":
            expected["X", each["name"], each["tid"], each["ts"], each["dur"]] += 1
        elif each["ph"] in "stf":
            phase = "f" if each["ph"] == "f" else "t"
            expected["flow", phase, each["id"], each["tid"], each["ts"]] += 1
        elif each["ph"] == "i":
            expected["i", each["name"], each["tid"], each["ts"]] += 1
        elif each["ph"] == "C":
            expected["C", each["name"], each["ts"], next(iter(each["args"].values()))] += 1
    assert found == expected


@pytest.mark.parametrize("kind", ["X", "i"])
@given(made=streams)
def test_annotations_are_the_arguments_of_the_json(kind, made):
    recording = made.trace.recording()
    _, events = read_back(recording)
    wanted = {
        "X": TrackEvent.TYPE_SLICE_BEGIN, "i": TrackEvent.TYPE_INSTANT,
    }[kind]  # fmt: skip
    found = [annotations(e.track_event) for e in events if e.track_event.type == wanted]
    told = [e["args"] for e in timed_events(recording) if e["ph"] == kind]
    assert sorted(map(repr, found)) == sorted(map(repr, told))
