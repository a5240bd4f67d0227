"""A run as Prometheus metrics: read when somebody asks, in base units."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from lsd.pipeline.health import STATES, Health
from lsd.pipeline.ledger import Counts
from lsd.pipeline.link import LinkStats
from lsd.pipeline.metrics import Percentiles
from lsd.pipeline.report import Report

_WHAT_QUANTILES = "quantiles since the start without the warm-up, sum and count with it; seconds"

# What else a run may tell, by the name of the field in its status, its report or the report
# of its ladder: the metric's name and help. A number becomes a gauge, or a counter where the
# name ends in _total; a text a gauge of 1 and a mapping counts, labelled with the field's name;
# percentiles become a summary.
_FURTHER = {
    "rung": ("livesd_rung", "1 for the quality that frames are made in"),
    "level": ("livesd_rung_level", "Place of that rung in the ladder, 0 is the best"),
    "changes": ("livesd_rung_changes_total", "How often the rung has changed"),
    "plans": ("livesd_frames_planned_total", "Frames by why the scheduler made them so"),
    "passed_through": ("livesd_frames_passed_through_total", "Inputs shown for a late frame"),
    "interpolated": ("livesd_frames_interpolated_total", "Carried on pictures shown for one"),
    "lateness": ("livesd_tick_lateness_seconds", "Of the ticks that notice a missed deadline"),
}


class Expecting(Protocol):
    """How many frames there will be; None where nobody knows."""

    @property
    def expected(self) -> int | None: ...


class Observed(Protocol):
    """What is asked of a run; `Runner` is one, `Overseen` that of several workers."""

    def status(self) -> Expecting: ...
    def report(self) -> Report: ...
    def health(self) -> Health: ...
    def links(self) -> dict[str, LinkStats]: ...


class RunCollector(Collector):
    """The metrics of one run, as a registry of prometheus_client collects them.

    A collection takes some 40 ms, nearly all of it the search for quantiles, in the thread
    that asks; the frames' own threads do nothing for it.

    Args:
        run: whose metrics; may not have started yet.
        name: what the pipeline is called.
    """

    def __init__(self, run: Observed, name: str) -> None:
        self._run = run
        self._name = name

    def collect(self) -> Iterator[Metric]:
        """Yield all families; counts are those of one moment, so that their sums agree."""
        report, status = self._run.report(), self._run.status()
        yield from _about(self._name, report)
        yield from _state(self._run.health())
        yield from _frames(report.counts, status.expected)
        yield from _timing(report)
        yield from _stages(report)
        yield from _links(self._run.links())
        yield from _further((status, report, getattr(report, "ladder", None)))

    def describe(self) -> Iterable[Metric]:
        """Return nothing: a registry need not collect to know that the names are ours."""
        return []


def _about(name: str, report: Report) -> Iterator[Metric]:
    build = {"version": version("livesd"), "python": platform.python_version()}
    yield InfoMetricFamily("livesd_build", "What runs", value=build)
    # Inputs and outputs stay out: an address may hold a password.
    facts = {
        key: str(report.facts[key]) for key in ("model", "engine", "seed") if key in report.facts
    }
    about = {"name": name, "device": report.device, **facts}
    yield InfoMetricFamily("livesd_run", "How it runs", value=about)


def _state(health: Health) -> Iterator[Metric]:
    state = GaugeMetricFamily("livesd_run_state", "1 for the run's state", labels=["state"])
    for name in STATES:
        state.add_metric([name], name == health.state)
    yield state
    yield GaugeMetricFamily("livesd_healthy", "What /healthz says: 1 well", health.is_alive)
    yield GaugeMetricFamily("livesd_ready", "What /readyz says: 1 ready", health.is_ready)
    yield GaugeMetricFamily(
        "livesd_troubles",
        "Stages without their source or an output; of workers, those not well",
        health.troubles,
    )


def _frames(counts: Counts, expected: int | None) -> Iterator[Metric]:
    for name, text, value in (
        ("captured", "Pictures that became frames", counts.captured),
        ("emitted", "Fresh frames handed to the outputs", counts.emitted),
        ("repeated", "Times that the last picture went out again", counts.repeated),
        ("failed", "Frames that a stage lost by an error", counts.failed),
    ):
        yield CounterMetricFamily(f"livesd_frames_{name}", text, value)
    if counts.received or counts.sent:
        yield CounterMetricFamily("livesd_frames_received", "From other hosts", counts.received)
        yield CounterMetricFamily("livesd_frames_sent", "To other hosts", counts.sent)
    dropped = CounterMetricFamily("livesd_frames_dropped", "Frames given up", labels=["reason"])
    for reason, count in counts.dropped.items():
        dropped.add_metric([reason], count)
    yield dropped
    yield GaugeMetricFamily(
        "livesd_frames_in_flight",
        "captured + received - emitted - sent - dropped - failed, of the same moment",
        counts.in_flight,
    )
    if expected is not None:
        yield GaugeMetricFamily("livesd_frames_expected", "Frames there will be", expected)
    yield GaugeMetricFamily(
        "livesd_frames_per_second", "Fresh frames a second since the first", counts.fps
    )


def _timing(report: Report) -> Iterator[Metric]:
    if report.budget_ms is not None:
        yield GaugeMetricFamily(
            "livesd_latency_budget_seconds", "What latency may be", report.budget_ms / 1000
        )
    if report.hit_rate is not None:
        yield GaugeMetricFamily(
            "livesd_deadline_hit_ratio", "Frames on time over frames captured", report.hit_rate
        )
    for name, text, values in (
        ("latency", "Capture to hand-over to the outputs", report.latency),
        ("gap", "Between two emissions, fresh or repeated", report.gap),
        ("overhead", "Latency less the stages' service times", report.overhead),
        ("source_read", "The source's time for a picture, waiting included", report.read),
    ):
        yield _summary(f"livesd_{name}_seconds", text, {None: values})


def _stages(report: Report) -> Iterator[Metric]:
    stages = report.stages
    for name, text, values in (
        ("service", "A stage's work on a frame", {n: s.service for n, s in stages.items()}),
        ("wait", "Of a frame before a stage", {n: s.wait for n, s in stages.items()}),
    ):
        yield _summary(f"livesd_stage_{name}_seconds", text, values)
    events = CounterMetricFamily(
        "livesd_stage_events",
        "What stages count: pictures rejected, reconnects, resets, losses of an output",
        labels=["stage", "event"],
    )
    for stage, counted in report.events.items():
        for event, count in counted.items():
            events.add_metric([stage, event], count)
    yield events


def _links(links: Mapping[str, LinkStats]) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "livesd_link_depth_frames", "Frames that wait for a thread", labels=["thread"]
    )
    for thread, stats in links.items():
        depth.add_metric([thread], stats.depth)
    yield depth


def _further(tellers: Sequence[object]) -> Iterator[Metric]:
    for field, (name, text) in _FURTHER.items():
        value = next((getattr(each, field) for each in tellers if hasattr(each, field)), None)
        if isinstance(value, Percentiles):
            yield _summary(name, text, {None: value})
        elif isinstance(value, (int, float)):
            is_counter = name.endswith("_total")
            yield (CounterMetricFamily if is_counter else GaugeMetricFamily)(name, text, value)
        elif isinstance(value, Mapping):
            counts = CounterMetricFamily(name, text, labels=[field])
            for key, count in value.items():
                counts.add_metric([str(key)], count)
            yield counts
        elif value is not None:
            gauge = GaugeMetricFamily(name, text, labels=[field])
            gauge.add_metric([str(value)], 1)
            yield gauge


def _summary(name: str, text: str, rows: Mapping[Any, Percentiles]) -> Metric:
    """Return durations as a summary with quantiles; empty ones have a sum and a count only.

    Args:
        name: of the family.
        text: what is measured.
        rows: stage, or None for what has none -> the durations.
    """
    family = SummaryMetricFamily(name, f"{text}: {_WHAT_QUANTILES}")
    for stage, found in rows.items():
        labels = {} if stage is None else {"stage": stage}
        for quantile, value_ms in (
            ("0.5", found.p50),
            ("0.95", found.p95),
            ("0.99", found.p99),
            ("0.999", found.p999),
        ):
            if value_ms is not None:
                family.add_sample(name, {**labels, "quantile": quantile}, value_ms / 1000)
        family.add_sample(f"{name}_count", labels, found.total_count)
        family.add_sample(f"{name}_sum", labels, found.total_ms / 1000)
    return family
