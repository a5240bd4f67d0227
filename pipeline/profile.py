"""Where the milliseconds of a run went: from a trace's records to percentiles; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lsd.pipeline.trace import CardSpan, Recording, Span

# In thousandths, so that ranks are whole numbers.
_PERMILLES = (500, 950, 990, 999)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Some durations in milliseconds; each value is one that was measured, None where none was.

    `p99` is what 99 % of them keep to: for a wait at most that long, for a slack at
    least that much. With fewer than a thousand, `p999` is simply the worst.
    """

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    p999: float | None

    def to_json(self) -> dict[str, float | None]:
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99, "p99.9": self.p999}


@dataclass(frozen=True, slots=True)
class StageProfile:
    """One stage.

    Attributes:
        wait: from when a frame could have been started on to the start.
        service: from the start to the end.
        on_card: how long a card worked for it; none where there is no card.
        age: from the frame's capture to the end.
        slack: from the end to the frame's deadline, negative behind it; none file to file.
    """

    wait: Quantiles
    service: Quantiles
    on_card: Quantiles
    age: Quantiles
    slack: Quantiles

    def to_json(self) -> dict[str, Any]:
        return {
            "frames": self.service.count,
            "wait_ms": self.wait.to_json(),
            "service_ms": self.service.to_json(),
            **({"on_card_ms": self.on_card.to_json()} if self.on_card.count else {}),
            "age_ms": self.age.to_json(),
            "slack_ms": self.slack.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Profile:
    """A run, as far back as its trace goes.

    Attributes:
        stages: name -> what frames met there, in order.
        read: how long the source took for a picture, waiting for it included.
        gap: between two emissions, fresh or repeated.
    """

    stages: dict[str, StageProfile]
    read: Quantiles
    gap: Quantiles

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON types; times in milliseconds, None where unknown."""
        return {
            "stages": {name: stage.to_json() for name, stage in self.stages.items()},
            "read_ms": self.read.to_json(),
            "gap_ms": self.gap.to_json(),
        }


def profile_of(recording: Recording, warmup_frames: int = 0) -> Profile:
    """Summarise what a trace holds.

    Args:
        recording: from a run's trace; its names end with the output and the reading.
        warmup_frames: frames before this `seq` are left out, but for the gaps.
    """
    *stages, read = recording.names
    spans: dict[str, list[Span]] = {name: [] for name in recording.names}
    for span in recording.spans:
        if span.seq >= warmup_frames:
            spans[span.stage].append(span)
    on_card: dict[str, list[CardSpan]] = {name: [] for name in recording.names}
    for each in recording.on_card:
        if each.seq >= warmup_frames:
            on_card[each.stage].append(each)
    captured = {each.seq: each.captured_ns for each in recording.admissions}
    deadlines = {
        each.seq: each.deadline_ns for each in recording.admissions if each.deadline_ns is not None
    }
    return Profile(
        stages={name: _stage(spans[name], on_card[name], captured, deadlines) for name in stages},
        read=quantiles(span.end_ns - span.start_ns for span in spans[read]),
        gap=quantiles(later - earlier for earlier, later in pairwise(_emissions(recording))),
    )


def quantiles(durations_ns: Iterable[int]) -> Quantiles:
    """Return percentiles by the nearest rank; a long duration is a bad one.

    >>> quantiles(n * 1_000_000 for n in range(1, 101))
    Quantiles(count=100, p50=50.0, p95=95.0, p99=99.0, p999=100.0)
    """
    return _ranked(sorted(durations_ns))


def _stage(
    spans: Sequence[Span],
    on_card: Sequence[CardSpan],
    captured: dict[int, int],
    deadlines: dict[int, int],
) -> StageProfile:
    # The ring may have lost a frame's admission and kept its later spans.
    ages = [span.end_ns - captured[span.seq] for span in spans if span.seq in captured]
    slacks = [deadlines[span.seq] - span.end_ns for span in spans if span.seq in deadlines]
    return StageProfile(
        wait=quantiles(span.start_ns - span.ready_ns for span in spans),
        service=quantiles(span.end_ns - span.start_ns for span in spans),
        on_card=quantiles(span.end_ns - span.start_ns for span in on_card),
        age=quantiles(ages),
        slack=_ranked(sorted(slacks, reverse=True)),  # a short one is a bad one
    )


def _emissions(recording: Recording) -> list[int]:
    """Return when something went out, fresh or repeated, in order."""
    output = recording.names[-2]
    fresh = [span.end_ns for span in recording.spans if span.stage == output]
    return sorted(fresh + [repeat.at_ns for repeat in recording.repeats])


def _ranked(best_first: Sequence[int]) -> Quantiles:
    count = len(best_first)
    if not count:
        return Quantiles(0, None, None, None, None)
    places = (-(-permille * count // 1000) - 1 for permille in _PERMILLES)
    return Quantiles(count, *(best_first[place] / 1e6 for place in places))
