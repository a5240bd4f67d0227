"""What `livesd bench` prints."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from lsd.pipeline.bench import Breakdown
from lsd.pipeline.report import Report, bar, ms, summary


def table(found: Breakdown) -> RenderableType:
    """Return a breakdown for a terminal: a line a stage, with its share of a frame as a bar."""
    drawn = Table(title="where the milliseconds of a frame go", title_justify="left")
    drawn.add_column("ms")
    for column in ("p50", "p95", "p99", "mean", "waited p50", "waited p99", "share"):
        drawn.add_column(column, justify="right")
    drawn.add_column("")
    for name, service in found.services.items():
        times, wait = service.quantiles, found.waits[name].quantiles
        is_beside = name in found.beside
        # Flat out, frames stand in every queue by design.
        waited = ("", "") if found.beside else (ms(wait.p50), ms(wait.p99))
        share = found.share(service)
        drawn.add_row(
            name,
            *map(ms, (times.p50, times.p95, times.p99, service.mean_ms)),
            *waited,
            "beside" if is_beside else f"{share:.1%}",
            "" if is_beside else bar(share),
        )
    for name, card in found.on_card.items():
        times = card.quantiles
        values = map(ms, (times.p50, times.p95, times.p99, card.mean_ms))
        drawn.add_row(f"{name}, on the card", *values, "", "", "beside", "")
    drawn.add_section()
    for name, part in (("waits, hand-overs", found.overhead), ("a frame", found.whole)):
        times, share = part.quantiles, found.share(part)
        values = map(ms, (times.p50, times.p95, times.p99, part.mean_ms))
        drawn.add_row(name, *values, "", "", f"{share:.1%}", bar(share))
    drawn.add_section()
    read = found.read.quantiles
    values = map(ms, (read.p50, read.p95, read.p99, found.read.mean_ms))
    drawn.add_row("the source", *values, "", "", "beside", "")
    return drawn


def closing(found: Breakdown, report: Report, wanted: int) -> str:
    """Say below the table what it comes to; `wanted` frames were asked for."""
    lines = []
    stage = report.facts.get("model_stage")
    by = found.ratio_to(None if stage is None else str(stage))
    if by is not None:
        lines.append(
            f"a frame takes {found.whole.p50:.2f} ms at the median, {by:.2f} times the work of the "
            f"stage with the model ({stage})"
        )
    if report.counts.captured < wanted:
        lines.append(
            f"the input had {report.counts.captured} frames, {wanted} were asked for: "
            "--set stages.capture.loop=true repeats it"
        )
    lines.append(f"{found.frames} frames measured; {summary(report)}")
    return "\n".join(lines)
