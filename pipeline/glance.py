"""What `livesd top` shows of a run: from two readings to figures, a line, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lsd.pipeline.report import bar, ms
from lsd.pipeline.scrape import Reading
from lsd.pipeline.terminal import Fitting

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Times:
    """Durations in milliseconds; None where there were none.

    Attributes:
        p50, p99: since the start, without the warm-up.
        now: the mean since the reading before.
    """

    p50: float | None
    p99: float | None
    now: float | None


@dataclass(frozen=True, slots=True)
class Glance:
    """A run at one moment.

    Attributes:
        name, device, state: as the run calls them.
        captured, emitted, repeated, failed, in_flight: frames, as in the run's report.
        dropped: reason -> frames.
        expected: frames there will be; None where nobody knows.
        fps: fresh frames a second since the start.
        fps_now: since the reading before; None at the first.
        hit_rate: 0 to 1, since the start; None file to file.
        budget_ms: what latency may be; None file to file.
        latency: from capture to the hand-over to the outputs.
        service, wait: stage -> the work on a frame, and the wait for it.
        events: "stage: event", or "worker: restarts", -> how often.
        waiting: thread -> frames that wait for it.
        rung: the quality that frames are made in; None where the run has no such thing.
        troubles: stages without their source or an output, and workers that are not well.
        memory_mb: resident, and what workers have for themselves; None where nobody tells.
    """

    name: str
    device: str
    state: str
    captured: int
    emitted: int
    repeated: int
    failed: int
    in_flight: int
    dropped: dict[str, int]
    expected: int | None
    fps: float
    fps_now: float | None
    hit_rate: float | None
    budget_ms: float | None
    latency: Times
    service: dict[str, Times]
    wait: dict[str, Times]
    events: dict[str, int]
    waiting: dict[str, int]
    rung: str | None
    troubles: int
    memory_mb: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON types; times in milliseconds, None where unknown."""
        return asdict(self)


def glance_at(now: Reading, before: Reading | None = None) -> Glance:
    """Read the figures.

    Args:
        now: the latest reading.
        before: an earlier one; forgotten where it is another run's.
    """
    if before is not None and _is_another_run(now, before):
        before = None
    about = now.labels("livesd_run_info")
    states = now.by("livesd_run_state", "state")
    expected = now.value("livesd_frames_expected")
    budget_s = now.value("livesd_latency_budget_seconds")
    memory = now.value("process_resident_memory_bytes")
    workers = now.by("livesd_worker_memory_bytes", "worker")
    stages = now.by("livesd_stage_service_seconds_count", "stage")
    return Glance(
        name=about.get("name", "?"),
        device=about.get("device", "?"),
        state=next((name for name, value in states.items() if value), "?"),
        captured=_count(now, "livesd_frames_captured_total"),
        emitted=_count(now, "livesd_frames_emitted_total"),
        repeated=_count(now, "livesd_frames_repeated_total"),
        failed=_count(now, "livesd_frames_failed_total"),
        in_flight=_count(now, "livesd_frames_in_flight"),
        dropped=_counts(now.by("livesd_frames_dropped_total", "reason")),
        expected=None if expected is None else int(expected),
        fps=now.value("livesd_frames_per_second") or 0.0,
        fps_now=_rate(now, before, "livesd_frames_emitted_total"),
        hit_rate=now.value("livesd_deadline_hit_ratio"),
        budget_ms=None if budget_s is None else budget_s * 1000,
        latency=_times(now, before, "livesd_latency_seconds"),
        service={s: _times(now, before, "livesd_stage_service_seconds", stage=s) for s in stages},
        wait={s: _times(now, before, "livesd_stage_wait_seconds", stage=s) for s in stages},
        events=_events(now),
        waiting=_counts(now.by("livesd_link_depth_frames", "thread")),
        rung=_rung(now),
        troubles=_count(now, "livesd_troubles"),
        memory_mb=None if memory is None else (memory + sum(workers.values())) / 1e6,
    )


def glance_line(glance: Glance) -> str:
    """Write a glance as one line of plain text."""
    return " | ".join([f"{glance.name} {glance.state}", *_speed(glance), *_lost(glance)])


def glance_table(glance: Glance) -> RenderableType:
    """Return a glance for a terminal: two lines on the run, and one a stage."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble(
        (glance.name, "bold"), "  ", (glance.state, _COLOURS.get(glance.state, "bold red")),
        f"  {glance.device}", f"  rung {glance.rung}" if glance.rung else "",
        f"  {glance.memory_mb:.0f} MB" if glance.memory_mb is not None else "",
    )  # fmt: skip
    tables = [_stage_table(glance, columns) for columns in (_COLUMNS, _COLUMNS[:6], _COLUMNS[:3])]
    waiting = ", ".join(f"{count} for {thread}" for thread, count in glance.waiting.items())
    lost = [*_lost(glance), *(f"{event} {count}" for event, count in glance.events.items())]
    lines = [" | ".join(_speed(glance)), " | ".join(lost) or "nothing lost"]
    last = [Text(f"waiting: {waiting}")] if waiting else []  # workers tell nothing of it
    return Group(head, *map(Text, lines), Fitting(*tables), *last)


_COLUMNS = ("now", "p50", "p99", "wait now", "wait p50", "wait p99", "p99 as a bar")


def _stage_table(glance: Glance, columns: Sequence[str]) -> RenderableType:
    """Return a line a stage, with so many of `_COLUMNS`."""
    from rich.table import Table

    table = Table(title="ms per frame", title_justify="left")
    table.add_column("stage")
    for column in columns:
        table.add_column(column, justify="right" if column != _COLUMNS[-1] else "left")
    longest = max((times.p99 or 0.0 for times in glance.service.values()), default=0.0)
    for stage, times in glance.service.items():
        wait = glance.wait[stage]
        values = (times.now, times.p50, times.p99, wait.now, wait.p50, wait.p99)
        cells = [*map(ms, values), bar((times.p99 or 0.0) / longest if longest else 0)]
        table.add_row(stage, *cells[: len(columns)])
    return table


_COLOURS = {"starting": "yellow", "running": "green", "stopping": "yellow", "ended": "yellow"}


def _speed(glance: Glance) -> list[str]:
    """Return how much and how fast, in parts."""
    done = f"{glance.emitted}"
    if glance.expected:
        done += f"/{glance.expected} ({glance.emitted / glance.expected:.0%})"
    fps = glance.fps if glance.fps_now is None else glance.fps_now
    parts = [f"{done} frames", f"{fps:.1f} fps"]
    latency = glance.latency
    if latency.p50 is not None:
        budget = f" of {glance.budget_ms:g}" if glance.budget_ms is not None else ""
        parts.append(f"latency {ms(latency.p50)} / {ms(latency.p99)}{budget} ms p50/p99")
    if glance.hit_rate is not None:
        parts.append(f"{glance.hit_rate:.1%} on time")
    return parts


def _lost(glance: Glance) -> list[str]:
    """Return what did not go as it should, in parts."""
    counts = {"repeated": glance.repeated, **glance.dropped, "failed": glance.failed}
    return [f"{count} {reason}" for reason, count in counts.items() if count]


def _is_another_run(now: Reading, before: Reading) -> bool:
    started = "process_start_time_seconds"
    counted = "livesd_frames_captured_total"
    return now.value(started) != before.value(started) or _count(now, counted) < _count(
        before, counted
    )


def _count(reading: Reading, name: str) -> int:
    return int(reading.value(name) or 0)


def _counts(values: dict[str, float]) -> dict[str, int]:
    return {key: int(value) for key, value in values.items()}


def _difference(now: Reading, before: Reading | None, name: str, **labels: str) -> float | None:
    later = now.value(name, **labels)
    earlier = None if before is None else before.value(name, **labels)
    return None if later is None or earlier is None else later - earlier


def _rate(now: Reading, before: Reading | None, name: str) -> float | None:
    count = _difference(now, before, name)
    if count is None or before is None or now.at_s <= before.at_s:
        return None
    return count / (now.at_s - before.at_s)


def _times(now: Reading, before: Reading | None, name: str, **labels: str) -> Times:
    p50, p99 = (now.value(name, quantile=quantile, **labels) for quantile in ("0.5", "0.99"))
    total_s = _difference(now, before, f"{name}_sum", **labels)
    count = _difference(now, before, f"{name}_count", **labels)
    # Fewer than before: another process of the worker counts them, and its second is not over.
    mean_s = total_s / count if total_s is not None and count is not None and count > 0 else None
    return Times(*(None if value is None else value * 1000 for value in (p50, p99, mean_s)))


def _events(reading: Reading) -> dict[str, int]:
    found = {}
    for (name, labels), value in reading.samples.items():
        if name == "livesd_stage_events_total":
            about = dict(labels)
            found[f"{about['stage']}: {about['event']}"] = int(value)
    restarts = reading.by("livesd_worker_restarts_total", "worker")
    return found | {f"{name}: restarts": int(count) for name, count in restarts.items() if count}


def _rung(reading: Reading) -> str | None:
    named = next(iter(reading.by("livesd_rung", "rung")), None)
    number = reading.value("livesd_rung")
    return named if number is None else f"{number:g}"
