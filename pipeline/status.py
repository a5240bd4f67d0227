"""How a run goes, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """A run so far, for a progress line.

    Attributes:
        captured, emitted, repeated, failed, in_flight, passed_through, interpolated: as in
            `Counts`.
        dropped: reason -> frames.
        fps: fresh frames a second so far.
        latency_p50_ms, latency_p99_ms: None before the first emission.
        hit_rate: 0 to 1; None file to file.
        expected: how many frames there will be; None where nobody knows.
        messages: all that the stages reported to the user so far, in order.
        is_running: whether `wait` would still wait.
        rungs: the ladder in words, best first; empty where no budget is kept.
        level: number of the rung that the stream stands on; None where no budget is kept.
        rung: that rung in words.
        troubles: what stages are without now, a line each.
        latency_recent_ms: p50 and p99 of the last 250 frames.
    """

    captured: int
    emitted: int
    repeated: int
    dropped: Mapping[str, int]
    failed: int
    in_flight: int
    fps: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    hit_rate: float | None
    expected: int | None
    messages: tuple[str, ...]
    is_running: bool
    passed_through: int = 0
    interpolated: int = 0
    rungs: tuple[str, ...] = ()
    level: int | None = None
    rung: str | None = None
    troubles: tuple[str, ...] = ()
    latency_recent_ms: tuple[float, float] | None = None
