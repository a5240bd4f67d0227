"""What a run was like: for machines as JSON, for people as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lsd.pipeline.budget import LadderReport
from lsd.pipeline.ledger import Counts
from lsd.pipeline.metrics import Percentiles
from lsd.pipeline.progress import stood_in
from lsd.pipeline.session import Session
from lsd.pipeline.terminal import Fitting

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR_WIDTH = 16


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage: frames served, and percentiles after the warm-up.

    Attributes:
        frames: all frames that the stage worked on, those of the warm-up too.
        service: from the start of the work on a frame to its end.
        wait: from when a frame could have been started on to the start.
        on_card: how long a card worked for it; empty where there is none.
    """

    frames: int
    service: Percentiles
    wait: Percentiles
    on_card: Percentiles


@dataclass(frozen=True, slots=True)
class Report:
    """A run, at its end or so far.

    Percentiles and hit rate leave out the first `warmup_frames` frames, and
    count all where not more than twice as many were captured; counts and fps
    are about all frames.

    Attributes:
        counts: what became of the frames.
        latency: from capture to hand-over to the sinks.
        budget_ms: what latency may be at the most; None file to file.
        hit_rate: fresh frames on time over frames captured, 0 to 1; dropped,
            failed and late frames are misses. None where there is no deadline.
        gap: between two emissions, fresh or not.
        lateness: how long after they were due the pacer's ticks were looked at; live only.
        overhead: latency less the stages' service times: hand-overs between
            threads, and queueing wherever frames come faster than they are served.
        read: how long the source took for a picture, waiting for it included.
        stages: name -> what it did, in order.
        facts: what the stages say about themselves ("model", "engine", "seed").
        device: where the stages computed.
        events: stage -> event -> how often (guards, reconnects, resets).
        warmup_frames: frames that percentiles leave out.
        error: why the run ended early; None: it did not.
        ladder: how the budget was kept; None where none was.
    """

    counts: Counts
    latency: Percentiles
    budget_ms: float | None
    hit_rate: float | None
    gap: Percentiles
    lateness: Percentiles
    overhead: Percentiles
    read: Percentiles
    stages: Mapping[str, StageReport]
    facts: Mapping[str, str | int]
    device: str
    events: Mapping[str, Mapping[str, int]]
    warmup_frames: int
    error: str | None
    ladder: LadderReport | None = None

    def at_end(self) -> Report:
        """Return it as that of a run that is over: one that lost all its frames has failed."""
        counts = self.counts
        came, left = counts.captured + counts.received, counts.emitted + counts.sent
        if self.error is not None or left or counts.in_flight or not counts.failed:
            return self
        error = (
            f"nothing came out: {counts.failed} of {came} frames failed; the messages before tell "
            "how"
        )
        return replace(self, error=error)

    def to_json(self, *, with_totals: bool = False) -> dict[str, Any]:
        """Return the report as JSON types; times in milliseconds, None where unknown.

        Args:
            with_totals: of durations also p99.9, how many there were, and their sum.
        """
        counts = self.counts

        def times(values: Percentiles, *, with_max: bool = False) -> dict[str, float | None]:
            return _times(values, with_max=with_max, with_totals=with_totals)

        known = {"model": None, "engine": None, "device": self.device, "seed": None}
        measured = {
            "frames": {
                "captured": counts.captured,
                "emitted": counts.emitted,
                "repeated": counts.repeated,
                "passed_through": counts.passed_through,
                "interpolated": counts.interpolated,
                "dropped": dict(counts.dropped),
                "failed": counts.failed,
                "in_flight": counts.in_flight,
                **_crossed(counts),
            },
            "fps": round(counts.fps, 3),
            "latency_ms": times(self.latency, with_max=True),
            "deadline": {"budget_ms": self.budget_ms, "hit_rate": self.hit_rate},
            "stages": {
                name: {
                    "service_ms": times(stage.service),
                    "wait_ms": times(stage.wait),
                    "frames": stage.frames,
                    **({"on_card_ms": times(stage.on_card)} if stage.on_card.count else {}),
                }
                for name, stage in self.stages.items()
            },
            "guards": {name: dict(events) for name, events in self.events.items()},
            "gap_ms": times(self.gap, with_max=True),
            "lateness_ms": times(self.lateness, with_max=True),
            "overhead_ms": times(self.overhead, with_max=True),
            "read_ms": times(self.read, with_max=True),
            "warmup_frames": self.warmup_frames,
            "ladder": None if self.ladder is None else self.ladder.to_json(),
            "error": self.error,
        }
        # A stage's own facts come first, so that none can hide a measurement.
        return {**known, **self.facts, **measured}


def make_report(session: Session, facts: Mapping[str, str | int]) -> Report:
    """Read a session's measurements; may be called while it runs."""
    recorder, settings = session.recorder, session.settings
    counts = recorder.ledger.counts()
    is_short = counts.counted == counts.captured
    events: dict[str, dict[str, int]] = {}
    for (stage, event), count in sorted(session.source_context.counters.copy().items()):
        events.setdefault(stage, {})[event] = count
    return Report(
        counts=counts,
        latency=recorder.latency.percentiles(warmup=is_short),
        budget_ms=None if settings.latency_ns is None else settings.latency_ns / 1e6,
        hit_rate=hit_rate(session, counts),
        gap=recorder.gaps.durations.percentiles(),
        lateness=recorder.lateness.percentiles(),
        overhead=recorder.overhead.percentiles(warmup=is_short),
        read=recorder.read.percentiles(warmup=is_short),
        stages={
            name: StageReport(
                frames=durations.frames,
                service=durations.service.percentiles(warmup=is_short),
                wait=durations.wait.percentiles(warmup=is_short),
                on_card=durations.on_card.percentiles(warmup=is_short),
            )
            for name, durations in recorder.stages.items()
        },
        facts=facts,
        device=session.stage_context.device,
        events=events,
        warmup_frames=counts.captured - counts.counted,
        error=None if session.error is None else str(session.error),
        ladder=None if session.budget is None else session.budget.report(),
    )


def hit_rate(session: Session, counts: Counts) -> float | None:
    """Return frames on time over frames captured; None without deadlines or frames."""
    if session.settings.latency_ns is None or not counts.counted:
        return None
    return counts.on_time / counts.counted


def render_table(report: Report) -> RenderableType:
    """Return the report for a terminal: a line a stage, a bar for its median cost."""
    from rich.console import Group

    with_card = any(stage.on_card.count for stage in report.stages.values())
    columns = (*_COLUMNS, *(("card p50", "card p99") if with_card else ()), "")
    tables = [_stage_table(report, each) for each in (columns, columns[:-1], _COLUMNS[:4])]
    return Group(Fitting(*tables), summary(report))


_COLUMNS = ("frames", "p50", "p95", "p99", "wait p50", "wait p95", "wait p99")


def _stage_table(report: Report, columns: Sequence[str]) -> RenderableType:
    """Return a line a stage, with the first so many of all columns."""
    from rich.table import Table

    table = Table(title="time per frame (ms)", title_justify="left")
    table.add_column("stage")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    with_card = "card p50" in columns
    longest = max((stage.service.p50 or 0.0 for stage in report.stages.values()), default=0.0)
    for name, stage in report.stages.items():
        on_card = (stage.on_card.p50, stage.on_card.p99) if with_card else ()
        times = (*_triple(stage.service), *_triple(stage.wait), *on_card)
        share = (stage.service.p50 or 0.0) / longest if longest else 0.0
        cells = [str(stage.frames), *map(ms, times), bar(share)]
        table.add_row(name, *cells[: len(columns)])
    return table


def summary(report: Report) -> str:
    """Return the run in one or two lines of plain text."""
    counts, latency = report.counts, report.latency
    parts = [f"{counts.captured} captured", f"{counts.emitted} emitted"]
    parts += stood_in(counts)
    parts += [f"{number} {name}" for name, number in _crossed(counts).items() if number]
    parts += [f"{number} dropped ({reason})" for reason, number in counts.dropped.items()]
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if counts.in_flight:
        parts.append(f"{counts.in_flight} left in flight")
    speed = [f"{counts.fps:.1f} fps"]
    if latency.count:
        speed.append(
            f"latency p50 {ms(latency.p50)}, p99 {ms(latency.p99)}, max {ms(latency.max)} ms"
        )
    if report.hit_rate is not None:
        speed.append(f"{report.hit_rate:.1%} on time (budget {report.budget_ms:g} ms)")
    events = [
        f"{stage}: {event} {count}"
        for stage, counted in report.events.items()
        for event, count in counted.items()
    ]
    return "\n".join(", ".join(line) for line in (parts, speed, _ladder(report), events) if line)


def _ladder(report: Report) -> list[str]:
    """Say on which rungs the frames were made, and why not all on the best."""
    ladder = report.ladder
    if ladder is None or len(ladder.rungs) < 2 or not sum(ladder.made):
        return []
    rows = zip(ladder.rungs, ladder.shares, strict=True)
    rungs = "; ".join(f"{rung}: {share:.0%}" for rung, share in rows if share)
    plans = [f"{why} {count}" for why, count in ladder.plans.items() if why != "level"]
    changes = f"{ladder.changes} change{'' if ladder.changes == 1 else 's'} of rung"
    return [f"made at {rungs}", changes, *plans]


def _crossed(counts: Counts) -> dict[str, int]:
    """Return what came from other hosts and went there; nothing where there are none."""
    if not counts.received and not counts.sent:
        return {}
    return {"received": counts.received, "sent": counts.sent}


def _triple(values: Percentiles) -> tuple[float | None, float | None, float | None]:
    return values.p50, values.p95, values.p99


def _times(values: Percentiles, *, with_max: bool, with_totals: bool) -> dict[str, float | None]:
    result = {"p50": values.p50, "p95": values.p95, "p99": values.p99}
    if with_max:
        result["max"] = values.max
    if with_totals:
        result |= {"p99.9": values.p999, "count": values.total_count, "sum": values.total_ms}
    return result


def ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def bar(share: float) -> str:
    """Return a bar for `share`, 0 to 1, to an eighth of a cell.

    >>> bar(0.5)
    '████████'
    """
    eighths = round(share * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
