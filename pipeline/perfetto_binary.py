"""A trace's records in Perfetto's own format, a `Trace` of protobuf packets; pure.

The events are those of `perfetto.py`, and so are their names; times stay the monotonic clock's
nanoseconds. Source: "Converting arbitrary timestamped data to Perfetto", perfetto.dev.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (  # type: ignore[import-untyped]
    DebugAnnotation,
    Trace,
    TracePacket,
    TrackDescriptor,
    TrackEvent,
)

from lsd.pipeline.perfetto import RUNG, Event, timed_events, tracks_of
from lsd.pipeline.trace import Recording

_PID = 1
_SEQUENCE = 1  # all packets are one writer's
_PROCESS_TRACK = 100
_FIRST_COUNTER_TRACK = 200
_FLOW, _FLOW_END = ("s", "t", "f"), "f"


def trace_bytes(recording: Recording, title: str) -> bytes:
    """Return what a .pftrace file holds.

    Args:
        recording: from a run's trace; its names end with the output and the reading.
        title: of the process in the viewer.
    """
    events = timed_events(recording)
    counted = list(dict.fromkeys(event["name"] for event in events if event["ph"] == "C"))
    counters = {name: _FIRST_COUNTER_TRACK + place for place, name in enumerate(counted)}
    trace = Trace()
    for descriptor in _descriptors(title, tracks_of(recording), counters):
        trace.packet.add(track_descriptor=descriptor, trusted_packet_sequence_id=_SEQUENCE)
    # Nobody has written to this sequence before: what is lost is nothing.
    trace.packet[0].sequence_flags = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    # The sort keeps equal times in order: a span ends before the next one begins.
    for at_ns, event in sorted(_track_events(events, counters), key=lambda timed: timed[0]):
        trace.packet.add(timestamp=at_ns, track_event=event, trusted_packet_sequence_id=_SEQUENCE)
    content: bytes = trace.SerializeToString()
    return content


def _descriptors(
    title: str, threads: Mapping[int, str], counters: Mapping[str, int]
) -> Iterator[TrackDescriptor]:
    yield TrackDescriptor(
        uuid=_PROCESS_TRACK,
        process={"pid": _PID, "process_name": title},
        child_ordering=TrackDescriptor.EXPLICIT,
    )
    for track, name in threads.items():
        yield TrackDescriptor(
            uuid=track,
            parent_uuid=_PROCESS_TRACK,
            thread={"pid": _PID, "tid": track, "thread_name": name},
            sibling_order_rank=track,
        )
    for name, track in counters.items():
        yield TrackDescriptor(
            uuid=track,
            parent_uuid=_PROCESS_TRACK,
            name=name,
            counter={"unit_name": "number" if name == RUNG else "frames"},
            sibling_order_rank=track,
        )


def _track_events(
    events: list[Event], counters: Mapping[str, int]
) -> Iterator[tuple[int, TrackEvent]]:
    """Yield (time, event); a span is two of them, and its part of a flow stands in the first."""
    for event, following in zip_longest(events, events[1:]):
        at_ns, track, kind = event["ts"], event.get("tid"), event["ph"]
        if kind == "X":
            # A span's part of a flow is the event right behind it.
            flow = following["ph"] if following and following["ph"] in _FLOW else None
            yield at_ns, _begin(event, flow)
            end = TrackEvent(type=TrackEvent.TYPE_SLICE_END, track_uuid=track)
            yield at_ns + event["dur"], end
        elif kind == "i":
            yield at_ns, _named(event, TrackEvent.TYPE_INSTANT)
        elif kind == "C":
            yield (
                at_ns,
                TrackEvent(
                    type=TrackEvent.TYPE_COUNTER,
                    track_uuid=counters[event["name"]],
                    counter_value=next(iter(event["args"].values())),
                ),
            )


def _begin(event: Event, flow: str | None) -> TrackEvent:
    """Return the beginning of a span; `flow` says which part of its frame's it is, if any."""
    begin = _named(event, TrackEvent.TYPE_SLICE_BEGIN)
    if flow is not None:
        flows = begin.terminating_flow_ids if flow == _FLOW_END else begin.flow_ids
        flows.append(event["args"]["frame"] + 1)  # 0 would be no flow
    return begin


def _named(event: Event, kind: Any) -> TrackEvent:
    """Return an event with its name, its category and what it is about."""
    return TrackEvent(
        type=kind,
        track_uuid=event["tid"],
        name=event["name"],
        categories=[event["cat"]],
        debug_annotations=[_annotation(name, value) for name, value in event["args"].items()],
    )


def _annotation(name: str, value: int | float | str) -> DebugAnnotation:
    if isinstance(value, str):
        return DebugAnnotation(name=name, string_value=value)
    if isinstance(value, int):
        return DebugAnnotation(name=name, int_value=value)
    return DebugAnnotation(name=name, double_value=value)
