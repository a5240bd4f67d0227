"""Percentiles of durations, collected while the pipeline runs."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

PERCENTILES = (50.0, 95.0, 99.0, 99.9)
_HIGHEST_US = 3_600_000_000  # an hour; what is longer counts as an hour
_DIGITS = 3  # values are kept to 0.1 %, or to 1 us where that is coarser
_RECENT = 250  # ten seconds at 25 Hz


@dataclass(frozen=True, slots=True)
class Percentiles:
    """What a set of durations looks like, in milliseconds; None where it is empty.

    Attributes:
        count: how many the percentiles are of.
        total_count: how many there were in all, those of the warm-up too; never falls.
        total_ms: their sum.
    """

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float | None
    total_count: int
    total_ms: float


class Durations:
    """A histogram of durations; warm-up ones are kept apart.

    Any thread may record (about 4 us each) and read (about
    2 ms; both measured on 2 cores that other work shared).

    Args:
        warmup_frames: values of frames before this `seq` count as warm-up.
    """

    def __init__(self, warmup_frames: int = 0) -> None:
        self.warmup_frames = warmup_frames
        self._warmup = _histogram()
        self._steady = _histogram()
        self._recent_us: deque[int] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()
        self._total_count, self._total_ns = 0, 0

    def record(self, seq: int, duration_ns: int) -> None:
        """Add one duration, kept to the nearest microsecond; negative ones count as 0."""
        histogram = self._warmup if seq < self.warmup_frames else self._steady
        duration_us = min(max(0, (duration_ns + 500) // 1000), _HIGHEST_US)
        with self._lock:
            histogram.record_value(duration_us)
            self._recent_us.append(duration_us)
            self._total_count += 1
            self._total_ns += max(0, duration_ns)

    def percentiles(self, *, warmup: bool = False) -> Percentiles:
        """Return p50 to p99.9 and the largest, without the warm-up unless asked for."""
        # The search for the percentiles takes long and needs counts that stand
        # still; the copy is short, so that no recording waits for the search.
        histogram = _histogram()
        with self._lock:
            histogram.add(self._steady)
            if warmup:
                histogram.add(self._warmup)
            totals = self._total_count, self._total_ns / 1e6
        count = int(histogram.get_total_count())
        if not count:
            return Percentiles(0, None, None, None, None, None, *totals)
        values = histogram.get_percentile_to_value_dict(list(PERCENTILES))
        p50, p95, p99, p999 = (values[percentile] / 1000 for percentile in PERCENTILES)
        return Percentiles(count, p50, p95, p99, p999, histogram.get_max_value() / 1000, *totals)

    def recent(self) -> tuple[float, float] | None:
        """Return p50 and p99 of the last 250 durations in ms, those of the warm-up too; or None.

        What has become slower in the second hour shows here, and hardly in `percentiles`.
        """
        with self._lock:
            known = sorted(self._recent_us)
        if not known:
            return None
        return known[len(known) // 2] / 1000, known[len(known) * 99 // 100] / 1000


class StageDurations:
    """What one stage cost, on a card too, and how long frames stood in front of it."""

    def __init__(self, warmup_frames: int) -> None:
        self.frames = 0
        self.service = Durations(warmup_frames)
        self.wait = Durations(warmup_frames)
        self.on_card = Durations(warmup_frames)

    def record(self, seq: int, ready_ns: int, start_ns: int, end_ns: int) -> None:
        """Add one frame: the wait from ready to start, the service from start to end."""
        self.frames += 1
        self.wait.record(seq, start_ns - ready_ns)
        self.service.record(seq, end_ns - start_ns)


@dataclass(slots=True)
class Gaps:
    """Times between two emissions, fresh or repeated."""

    durations: Durations = field(default_factory=Durations)
    last_ns: int | None = None

    def emitted(self, now_ns: int) -> None:
        """Note that something went out."""
        if self.last_ns is not None:
            self.durations.record(0, now_ns - self.last_ns)
        self.last_ns = now_ns


def _histogram() -> HdrHistogram:
    return HdrHistogram(1, _HIGHEST_US, _DIGITS)
