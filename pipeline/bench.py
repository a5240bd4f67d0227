"""Where the milliseconds of a frame go, so that they add up; from a trace's records, pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lsd.pipeline.profile import Quantiles, quantiles
from lsd.pipeline.trace import Recording, Span


@dataclass(frozen=True, slots=True)
class Times:
    """Some durations; the means of the parts of a frame add up to that of the whole."""

    mean_ms: float
    quantiles: Quantiles

    @property
    def p50(self) -> float:
        """The median, in milliseconds; 0 where there is none."""
        return self.quantiles.p50 or 0.0

    def to_json(self) -> dict[str, float | None]:
        found = self.quantiles.to_json()
        return {"mean": self.mean_ms, **{name: found[name] for name in ("p50", "p95", "p99")}}


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What a frame takes, and what of it goes where.

    Attributes:
        frames: that were measured: those that came out, and of which the trace has all records.
        whole: live, from the capture to the hand-over to the sinks. Flat out, from when the
            compute loop begins with a frame to when it begins with the next.
        services: stage -> the work on a frame.
        waits: stage -> what a frame stood in front of it.
        on_card: stage -> how long a card worked for it; only those that a card works for, while
            their service is what the processor does to have it work.
        overhead: the whole less the services that are part of it.
        read: how long the source took for a picture, waiting for it included.
        beside: stages that work while others do, and are no part of the whole.
    """

    frames: int
    whole: Times
    services: dict[str, Times]
    waits: dict[str, Times]
    on_card: dict[str, Times]
    overhead: Times
    read: Times
    beside: tuple[str, ...]

    def share(self, part: Times) -> float:
        """Return a part of the whole, 0 to 1, by the means."""
        return part.mean_ms / self.whole.mean_ms if self.whole.mean_ms else 0.0

    def ratio_to(self, stage: str | None) -> float | None:
        """Return the whole over the work of one stage, by the medians; None: there is none.

        Its work is the card's, where one works for it.
        """
        work = (self.services | self.on_card).get(stage or "")
        return self.whole.p50 / work.p50 if work is not None and work.p50 else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types; times in milliseconds."""
        return {
            "measured": self.frames,
            "whole_ms": self.whole.to_json(),
            "stages": {
                name: {
                    "service_ms": service.to_json(),
                    "wait_ms": self.waits[name].to_json(),
                    **(
                        {"on_card_ms": self.on_card[name].to_json()} if name in self.on_card else {}
                    ),
                    "share": None if name in self.beside else self.share(service),
                }
                for name, service in self.services.items()
            },
            "overhead_ms": self.overhead.to_json(),
            "read_ms": self.read.to_json(),
        }


@dataclass(frozen=True, slots=True)
class _Way:
    """One frame's way: when it was captured, and a span a stage."""

    seq: int
    captured_ns: int
    spans: dict[str, Span]


def breakdown(recording: Recording, warmup_frames: int, *, is_flat_out: bool) -> Breakdown:
    """Take a run apart.

    Args:
        recording: from its trace; the names end with the output and the reading.
        warmup_frames: frames before this `seq` are left out.
        is_flat_out: what a frame takes is the time to the next one, not its age.
    """
    *stages, read = recording.names
    ways = list(_ways(recording, stages, warmup_frames))
    services = {name: [_service_ns(way.spans[name]) for way in ways] for name in stages}
    waits = {
        name: [way.spans[name].start_ns - way.spans[name].ready_ns for way in ways]
        for name in stages
    }
    known = {way.seq for way in ways}
    on_card: dict[str, list[int]] = {}
    for each in recording.on_card:
        if each.seq in known:
            on_card.setdefault(each.stage, []).append(each.end_ns - each.start_ns)
    if is_flat_out:
        # Frames that are lost on the way take of the loop's time, too: it counts as overhead.
        compute, beside = stages[:-1], stages[-1:]
        begins = [way.spans[stages[0]].start_ns for way in ways]
        wholes = [later - earlier for earlier, later in pairwise(begins)]
        ways = ways[:-1]  # nothing says how long the last one took
    else:
        compute, beside = stages, []
        wholes = [way.spans[stages[-1]].end_ns - way.captured_ns for way in ways]
    own = [sum(_service_ns(way.spans[name]) for name in compute) for way in ways]
    return Breakdown(
        frames=len(wholes),
        whole=_times(wholes),
        services={name: _times(values) for name, values in services.items()},
        waits={name: _times(values) for name, values in waits.items()},
        on_card={name: _times(values) for name, values in on_card.items()},
        overhead=_times([whole - work for whole, work in zip(wholes, own, strict=True)]),
        read=_times(
            [
                _service_ns(span)
                for span in recording.spans
                if span.stage == read and span.seq >= warmup_frames
            ]
        ),
        beside=tuple(beside),
    )


def _ways(recording: Recording, stages: Sequence[str], warmup_frames: int) -> Iterator[_Way]:
    """Yield the frames that came out, in order, if the ring still has all of their records."""
    spans: dict[int, dict[str, Span]] = {}
    for span in recording.spans:
        if span.seq >= warmup_frames and span.stage in stages:
            spans.setdefault(span.seq, {})[span.stage] = span
    captured = {each.seq: each.captured_ns for each in recording.admissions}
    for seq in sorted(spans):
        if len(spans[seq]) == len(stages) and seq in captured:
            yield _Way(seq, captured[seq], spans[seq])


def _service_ns(span: Span) -> int:
    return span.end_ns - span.start_ns


def _times(durations_ns: Sequence[int]) -> Times:
    mean_ns = sum(durations_ns) / len(durations_ns) if durations_ns else 0.0
    return Times(mean_ns / 1e6, quantiles(durations_ns))
