"""What became of every captured frame; the sums always agree."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lsd.pipeline.pacer import OnMiss


@dataclass(frozen=True, slots=True)
class Counts:
    """The ledger at one moment.

    Always: captured + received = emitted + sent + sum(dropped) + failed + in_flight.

    Attributes:
        captured: frames that capture handed on.
        emitted: fresh frames that the sinks took over; what stands in for one is not among them.
        repeated: how often the last picture went out again at a missed deadline.
        passed_through: how often the newest captured picture went out there instead.
        interpolated: how often the last picture did, carried on by its motion.
        dropped: reason -> frames. "superseded": a newer one replaced it before
            the work on it began. "skipped:NAME": stage NAME returned nothing.
        failed: frames whose stage raised.
        in_flight: frames on their way; after the end, those that a kill or an
            error left behind.
        counted: captured frames that the hit rate is about (see `Ledger`).
        on_time: frames among `counted` that were emitted by their deadline.
        first_ns: when the first fresh frame went out, monotonic; None: none did.
        last_ns: when the latest fresh frame went out.
        busy_since_ns: since when there has always been a frame in flight; None: there is none.
        received: frames that came from another host.
        sent: frames that went on to another host.
    """

    captured: int
    emitted: int
    repeated: int
    dropped: Mapping[str, int]
    failed: int
    in_flight: int
    counted: int
    on_time: int
    first_ns: int | None
    last_ns: int | None
    busy_since_ns: int | None = None
    passed_through: int = 0
    interpolated: int = 0
    received: int = 0
    sent: int = 0

    @property
    def fps(self) -> float:
        """Fresh frames a second between the first and the last emission."""
        if self.first_ns is None or self.last_ns is None or self.last_ns == self.first_ns:
            return 0.0
        return (self.emitted - 1) * 1e9 / (self.last_ns - self.first_ns)


class Ledger:
    """Books each frame exactly once in and once out; any thread may call.

    The hit rate leaves the first `warmup_frames` captured frames out, unless
    the run is so short (twice that or less) that most of it would go.

    Args:
        warmup_frames: how many frames at the start count as warm-up.
    """

    def __init__(self, warmup_frames: int) -> None:
        self.warmup_frames = warmup_frames
        self._lock = threading.Lock()
        self._captured = self._emitted = self._failed = 0
        self._stand_ins: Counter[OnMiss] = Counter()
        self._on_time = self._on_time_in_warmup = 0
        self._dropped: Counter[str] = Counter()
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._busy_since_ns = 0

    def capture(self, now_ns: int) -> None:
        """Book a frame in, that was captured at `now_ns`."""
        with self._lock:
            if self._captured == self._settled():
                self._busy_since_ns = now_ns
            self._captured += 1

    def drop(self, reason: str) -> None:
        """Book a frame out as dropped."""
        with self._lock:
            self._dropped[reason] += 1

    def fail(self) -> None:
        """Book a frame out as failed."""
        with self._lock:
            self._failed += 1

    def emit(self, seq: int, now_ns: int, deadline_ns: int | None) -> bool:
        """Book a frame out as handed over at `now_ns`; return whether by its deadline."""
        is_on_time = deadline_ns is not None and now_ns <= deadline_ns
        with self._lock:
            self._emitted += 1
            if is_on_time:
                if seq < self.warmup_frames:
                    self._on_time_in_warmup += 1
                else:
                    self._on_time += 1
            if self._first_ns is None:
                self._first_ns = now_ns
            self._last_ns = now_ns
        return is_on_time

    def repeat(self, kind: OnMiss = "repeat") -> None:
        """Count what stood in at a missed deadline; no frame is booked."""
        with self._lock:
            self._stand_ins[kind] += 1

    def counts(self) -> Counts:
        """Return a consistent copy."""
        with self._lock:
            out = self._settled()
            warmup = 0 if self._captured <= 2 * self.warmup_frames else self.warmup_frames
            return Counts(
                captured=self._captured,
                emitted=self._emitted,
                repeated=self._stand_ins["repeat"],
                passed_through=self._stand_ins["passthrough"],
                interpolated=self._stand_ins["interpolate"],
                dropped=dict(self._dropped),
                failed=self._failed,
                in_flight=self._captured - out,
                counted=self._captured - warmup,
                on_time=self._on_time + (0 if warmup else self._on_time_in_warmup),
                first_ns=self._first_ns,
                last_ns=self._last_ns,
                busy_since_ns=self._busy_since_ns if self._captured > out else None,
            )

    def _settled(self) -> int:
        """Return how many frames are booked out; under the lock."""
        return self._emitted + sum(self._dropped.values()) + self._failed
