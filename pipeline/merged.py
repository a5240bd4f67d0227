"""One report of a run in several workers, from what each of them reported at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lsd.pipeline.budget import LadderReport
from lsd.pipeline.ledger import Counts
from lsd.pipeline.lineage import Lineages
from lsd.pipeline.metrics import Percentiles
from lsd.pipeline.report import Report, StageReport

LOST = "worker_died"
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker has told of itself.

    Attributes:
        stages: that it ran.
        report: of its last process, as the worker program sends it; empty where it told none.
        restarts: how often it was started again.
        dropped_before: reason -> frames that the processes before that one had dropped, as far as
            known.
        failed_before: frames that a stage of those lost by an error, likewise.
    """

    stages: Sequence[str]
    report: Mapping[str, Any]
    restarts: int = 0
    dropped_before: Mapping[str, int] = field(default_factory=dict)
    failed_before: int = 0


@dataclass(frozen=True, slots=True)
class Crossed:
    """Frames that came to these workers and left them, in all their processes.

    Attributes:
        captured: made by the source, where it is among them.
        emitted: fresh ones that reached the sinks, where those are.
        received, sent: from other hosts and to them.
        on_time: of the emitted, those that were by their deadline.
    """

    captured: int = 0
    emitted: int = 0
    received: int = 0
    sent: int = 0
    on_time: int = 0

    @classmethod
    def of(cls, pages: Lineages) -> Crossed:
        """Read what they count; what leaves first, since more may come meanwhile."""
        on_time, sent, emitted = pages.on_time, pages.sent, pages.emitted
        return cls(pages.captured, emitted, pages.received, sent, on_time)


def merge(
    workers: Sequence[WorkerReport],
    crossed: Crossed,
    *,
    budget_ms: float | None,
    is_over: bool = True,
) -> Report:
    """Put the workers' reports together, in the order of their stages.

    Counts hold for the whole run, but for what stood in for a frame; that and percentiles are of
    the last process of each worker: those before took theirs with them. No warm-up is left out of
    the hit rate of several: the sink's process does not know which frames the source's has
    counted, nor does a second process which the first one had. What nobody
    accounts for at the end was on its way through a process that died: dropped, `worker_died`.

    Args:
        workers: in the order of their stages; of several hosts, those of one.
        crossed: what came to them and left them.
        budget_ms: what latency may be; None file to file.
        is_over: whether nothing is on its way any more. Before the end, nobody can tell what is
            from what a process took with it: all of it is in flight.
    """
    reports = [worker.report for worker in workers]
    first, last = reports[0], reports[-1]
    dropped: Counter[str] = Counter()
    for worker in workers:
        dropped.update(worker.dropped_before)
        dropped.update(_frames(worker.report).get("dropped", {}))
    failed = sum(
        _frames(worker.report).get("failed", 0) + worker.failed_before for worker in workers
    )
    came, emitted = crossed.captured + crossed.received, crossed.emitted
    lost = came - emitted - crossed.sent - failed - sum(dropped.values())
    has_died = any(worker.restarts for worker in workers) or not all(reports)
    if lost > 0 and has_died and is_over:
        dropped[LOST] = lost
    is_one = len(workers) == 1 and not has_died
    on_time: int = last.get("on_time", 0) if is_one else crossed.on_time
    warmup: int = last.get("warmup_frames", 0) if is_one else 0
    counted = (crossed.captured or crossed.received) - warmup
    has_sink = emitted > 0 or not crossed.sent
    events: dict[str, Mapping[str, int]] = {}
    facts: dict[str, str | int] = {}
    for report in reports:
        events |= report.get("guards", {})
        facts |= {
            name: value
            for name, value in report.items()
            if isinstance(value, str | int) and not isinstance(value, bool) and name not in _OWN
        }
    return Report(
        counts=Counts(
            captured=crossed.captured,
            emitted=emitted,
            received=crossed.received,
            sent=crossed.sent,
            repeated=_frames(last).get("repeated", 0),
            passed_through=_frames(last).get("passed_through", 0),
            interpolated=_frames(last).get("interpolated", 0),
            dropped=dict(dropped),
            failed=failed,
            in_flight=0 if has_died and is_over else max(0, lost),
            counted=counted,
            on_time=on_time,
            first_ns=None if not last else 0,
            last_ns=_span_ns(last, emitted),
        ),
        latency=_percentiles(last.get("latency_ms"), emitted),
        budget_ms=budget_ms,
        hit_rate=on_time / counted if budget_ms is not None and counted and has_sink else None,
        gap=_percentiles(last.get("gap_ms"), emitted),
        overhead=_percentiles(last.get("overhead_ms"), emitted),
        read=_percentiles(first.get("read_ms"), crossed.captured),
        lateness=_percentiles(last.get("lateness_ms"), emitted),
        stages={name: _stage(worker.report, name) for worker in workers for name in worker.stages},
        facts=facts,
        device=", ".join(dict.fromkeys(str(r["device"]) for r in reports if "device" in r)),
        events=events,
        warmup_frames=warmup,
        error=next((r["error"] for r in reports if r.get("error")), None),
        ladder=next(
            (LadderReport.from_json(r["ladder"]) for r in reports if r.get("ladder")), None
        ),
    )


_OWN = ("device", "fps", "on_time", "warmup_frames", "error")  # told in their own places


def _frames(report: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = report.get("frames", _NONE)
    return found


def _span_ns(report: Mapping[str, Any], emitted: int) -> int | None:
    """Return how long the emissions of the last process took, by its own rate."""
    fps = report.get("fps") or 0.0
    return round((emitted - 1) / fps * 1e9) if fps else None


def _stage(report: Mapping[str, Any], name: str) -> StageReport:
    found = report.get("stages", _NONE).get(name, _NONE)
    frames = found.get("frames", 0)
    return StageReport(
        frames=frames,
        service=_percentiles(found.get("service_ms"), frames),
        wait=_percentiles(found.get("wait_ms"), frames),
        on_card=_percentiles(found.get("on_card_ms"), frames),
    )


def _percentiles(found: Mapping[str, float | None] | None, count: int) -> Percentiles:
    if not found:
        return Percentiles(0, None, None, None, None, None, 0, 0.0)
    p50, p95, p99, p999, most = (found.get(q) for q in ("p50", "p95", "p99", "p99.9", "max"))
    total, total_ms = int(found.get("count") or count), found.get("sum") or 0.0
    return Percentiles(count, p50, p95, p99, p999, most, total, total_ms)
