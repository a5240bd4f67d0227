"""A trace's records as events of Chrome's Trace Event Format, which ui.perfetto.dev opens; pure.

Source: "Trace Event Format", the Chromium project; the phases X (a span), s, t, f (a flow's
start, steps and finish), i (an instant), C (a counter) and M (names).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any

from lsd.pipeline.pacer import OnMiss
from lsd.pipeline.trace import Recording, Span

Event = dict[str, Any]

_PROCESS = 1
_CAPTURE, _COMPUTE, _OUTPUT, _CARD = 1, 2, 3, 4
_TRACKS = {_CAPTURE: "capture", _COMPUTE: "compute", _OUTPUT: "output"}
IN_FLIGHT = "in flight"
_STOOD_IN: dict[OnMiss, str] = {
    "repeat": "repeated",
    "passthrough": "passed through",
    "interpolate": "interpolated",
}
RUNG = "rung"
_USUAL = ("level", "held")  # ways to make a frame that need no mark of their own


def trace_file(recording: Recording, title: str) -> dict[str, Any]:
    """Return what a trace file holds, as JSON types.

    Args:
        recording: from a run's trace; its names end with the output and the reading.
        title: of the process in the viewer.
    """
    return {"traceEvents": trace_events(recording, title), "displayTimeUnit": "ms"}


def trace_events(recording: Recording, title: str) -> list[Event]:
    """Return the events in order of time, those that name the tracks first.

    Times are microseconds since the earliest record.
    """
    timed = timed_events(recording)
    zero_ns = timed[0]["ts"] if timed else 0
    for event in timed:
        event["ts"] = (event["ts"] - zero_ns) / 1000
        if "dur" in event:
            event["dur"] /= 1000
    return [*_names(title, tracks_of(recording)), *timed]


def timed_events(recording: Recording) -> list[Event]:
    """Return the events in order of time, `ts` and `dur` in the recording's nanoseconds."""
    timed = [
        *_spans(recording),
        *_card_spans(recording),
        *_instants(recording),
        *_depths(recording),
        *_plans(recording),
        *_in_flight(recording),
    ]
    # A flow's event binds to the span in front of it: the sort must keep equal times in order.
    timed.sort(key=lambda event: event["ts"])
    return timed


def tracks_of(recording: Recording) -> dict[int, str]:
    """Return number -> name of the tracks: the threads, and a card where there is one."""
    return _TRACKS | ({_CARD: "card"} if recording.on_card else {})


def _names(title: str, tracks: dict[int, str]) -> Iterator[Event]:
    yield _meta("process_name", 0, {"name": title})
    for track, name in tracks.items():
        yield _meta("thread_name", track, {"name": name})
        yield _meta("thread_sort_index", track, {"sort_index": track})


def _meta(name: str, track: int, about: dict[str, Any]) -> Event:
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": track, "ts": 0, "args": about}


def _spans(recording: Recording) -> Iterator[Event]:
    """Yield every span and, where its frame has several, its part of the frame's flow."""
    tracks = _tracks(recording)
    frames: defaultdict[int, list[Span]] = defaultdict(list)
    for span in sorted(recording.spans, key=lambda span: (span.start_ns, span.end_ns)):
        frames[span.seq].append(span)
    for seq, spans in frames.items():
        last = len(spans) - 1
        for place, span in enumerate(spans):
            at = {"ts": span.start_ns, "pid": _PROCESS, "tid": tracks[span.stage]}
            yield {
                "ph": "X",
                "name": span.stage,
                "cat": "stage",
                **at,
                "dur": span.end_ns - span.start_ns,
                "args": {
                    "frame": seq,
                    "wait_ms": (span.start_ns - span.ready_ns) / 1e6,
                    "service_ms": (span.end_ns - span.start_ns) / 1e6,
                },
            }
            if last:
                phase = "s" if place == 0 else "f" if place == last else "t"
                # Without "e", a finish would bind to the next span of its track.
                bound = {"bp": "e"} if phase == "f" else {}
                yield {"ph": phase, "name": "frame", "cat": "frame", "id": seq, **at, **bound}


def _card_spans(recording: Recording) -> Iterator[Event]:
    for span in recording.on_card:
        yield {
            "ph": "X",
            "name": span.stage,
            "cat": "card",
            "ts": span.start_ns,
            "pid": _PROCESS,
            "tid": _CARD,
            "dur": span.end_ns - span.start_ns,
            "args": {"frame": span.seq},
        }


def _instants(recording: Recording) -> Iterator[Event]:
    tracks = _tracks(recording)
    for drop in recording.drops:
        # A frame is superseded by the thread that captures the next one.
        stage = drop.reason.partition(":")[2]
        track = tracks.get(stage, _CAPTURE)
        about = {"frame": drop.seq, "reason": drop.reason}
        yield _instant("drop", f"dropped: {drop.reason}", track, drop.at_ns, about)
    for failure in recording.failures:
        about = {"frame": failure.seq, "stage": failure.stage}
        track = tracks[failure.stage]
        yield _instant("failure", f"failed: {failure.stage}", track, failure.at_ns, about)
    for repeat in recording.repeats:
        late = {"late_ms": (repeat.at_ns - repeat.due_ns) / 1e6}
        yield _instant("repeat", _STOOD_IN[repeat.kind], _OUTPUT, repeat.at_ns, late)


def _instant(category: str, name: str, track: int, at_ns: int, about: dict[str, Any]) -> Event:
    at = {"ts": at_ns, "pid": _PROCESS, "tid": track}
    return {"ph": "i", "name": name, "cat": category, "s": "t", **at, "args": about}


def _depths(recording: Recording) -> Iterator[Event]:
    for depth in recording.depths:
        yield _counter(depth.link, depth.at_ns, depth.frames)


def _plans(recording: Recording) -> Iterator[Event]:
    """Yield the number of each frame's rung, 0 the best, and why where it is not the stream's."""
    for plan in recording.plans:
        counted = {"ph": "C", "name": RUNG, "pid": _PROCESS, "ts": plan.at_ns}
        yield {**counted, "args": {"rung": plan.place}}
        if plan.why not in _USUAL:
            about: dict[str, Any] = {"frame": plan.seq, "rung": plan.place}
            if plan.place < len(recording.rungs):
                about["made at"] = recording.rungs[plan.place]
            yield _instant("plan", plan.why, _COMPUTE, plan.at_ns, about)


def _in_flight(recording: Recording) -> Iterator[Event]:
    """Yield how many frames are on their way, whenever one begins or ends.

    A frame whose beginning the ring has lost is left out, so that the count stays whole.
    """
    begun = {each.seq: each.captured_ns for each in recording.admissions}
    ends = chain(
        ((span.seq, span.end_ns) for span in recording.spans if span.stage == recording.names[-2]),
        ((drop.seq, drop.at_ns) for drop in recording.drops),
        ((failure.seq, failure.at_ns) for failure in recording.failures),
    )
    changes = [(at_ns, 1) for at_ns in begun.values()]
    changes += [(at_ns, -1) for seq, at_ns in ends if seq in begun]
    frames = 0
    # At equal times, those that begin come first: no count falls below 0.
    for at_ns, change in sorted(changes, key=lambda each: (each[0], -each[1])):
        frames += change
        yield _counter(IN_FLIGHT, at_ns, frames)


def _counter(name: str, at_ns: int, frames: int) -> Event:
    return {"ph": "C", "name": name, "pid": _PROCESS, "ts": at_ns, "args": {"frames": frames}}


def _tracks(recording: Recording) -> dict[str, int]:
    """Return the thread that each stage works in; reading has the capture thread for itself."""
    *compute, output, read = recording.names
    return {**dict.fromkeys(compute, _COMPUTE), output: _OUTPUT, read: _CAPTURE}
