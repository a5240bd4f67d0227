"""What the report draws: curves over frames, and after a shock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift.plots import Curve, Panel, draw
from lsd.lab.drift.record import Record, Series
from lsd.lab.drift.shocks import SHOCKS
from lsd.stages.models.styles import INDEX, STYLES

Array: TypeAlias = NDArray[Any]

_POINTS = 64  # of a curve: a panel is some 200 pixels wide
_RECOVERED, _BY = 0.1, 15  # the recovery's gate
_OVER_TIME = ("likeness of laps, dB", "colour off, Oklab", "entropy", "detail", "high share")


@dataclass(frozen=True, slots=True)
class Plot:
    """A row of panels and what their colours mean.

    Attributes:
        title: above it.
        svg: an `<svg>` element.
        legend: a curve's colour, 0 to 8 -> what it is of.
    """

    title: str
    svg: str
    legend: dict[int, str]


def over_time(records: Sequence[Record]) -> list[Plot]:
    """Draw each style's streams: the loop by steps, the other inputs by name."""
    tested = [r for r in records if _is_tested(r)]
    plots = []
    for style in dict.fromkeys(record.run.style for record in tested):
        own = [record for record in tested if record.run.style == style]
        loops = [record for record in own if record.run.input == "loop"]
        plots += _plot(f"{style}, loop", loops, [_steps(record) for record in loops])
        fewest = min(record.run.steps for record in own)
        others = [r for r in own if r.run.input != "loop" and r.run.steps == fewest]
        title = "over the recording" if own[0].run.kind == "recorded" else f"{style}, other inputs"
        plots += _plot(title, others, [record.run.input for record in others])
    return plots


def of_controls(records: Sequence[Record]) -> list[Plot]:
    """Draw the controls' streams beside the one that they were made of."""
    sick = [r for r in records if r.run.kind == "stream" and r.run.control]
    if not sick:
        return []
    run = sick[0].run
    healthy = [
        record
        for record in records
        if _is_tested(record)
        and (record.run.style, record.run.steps, record.run.input)
        == (run.style, run.steps, run.input)
    ]
    names = [*("as shipped" for _ in healthy), *(str(record.run.control) for record in sick)]
    longest = max(record.run.frames for record in sick)
    return _plot(f"{run.style}, {run.input}", [*healthy, *sick], names, longest)


def of_recovery(records: Sequence[Record]) -> list[Plot]:
    """Draw how far shocked streams are from their twins: a panel a run."""
    shocked = [record for record in records if record.run.kind == "recovery"]
    panels = []
    for record in shocked:
        run = record.run
        curves = [
            Curve(np.arange(len(record.curves[shock]), dtype=float), record.curves[shock], number)
            for number, shock in enumerate(SHOCKS)
            if shock in record.curves and np.isfinite(record.curves[shock]).any()
        ]
        name = " ".join(filter(None, [run.control, run.style, _steps(record)]))
        panels.append(Panel(name, curves, (_RECOVERED,), (_BY,), is_log=True))
    if not panels:
        return []
    legend = {number: shock for number, shock in enumerate(SHOCKS) if shock != "nan"}
    return [Plot("distance to the undisturbed twin, over the shock's", draw(panels, 5), legend)]


def of_walks(records: Sequence[Record]) -> list[Plot]:
    """Draw how far the seeds' channel means are from each other: a panel a style."""
    walks = [record for record in records if record.run.kind == "walk"]
    panels = []
    for style in dict.fromkeys(record.run.style for record in walks):
        own = [record.series for record in walks if record.run.style == style]
        curves = []
        for colour, channel in zip((6, 2, 0), "rgb", strict=True):
            streams = [series[channel] for series in own if channel in series]
            if len(streams) > 1:
                spread = 255 * np.std(streams, axis=0, ddof=1)
                curves.append(Curve(np.arange(1.0, len(spread) + 1), spread, colour))
        panels.append(Panel(style, curves, span=(0.0, 1.0)))
    if not panels:
        return []
    svg = draw(panels, 5, _POINTS)
    return [Plot("spread of the seeds' means, grey levels", svg, {6: "R", 2: "G", 0: "B"})]


def _plot(
    title: str, records: Sequence[Record], names: Sequence[str], most: int | None = None
) -> list[Plot]:
    """Draw the same panels of all records; nothing where nothing was measured.

    Args:
        title: of the plot.
        records: at most 9.
        names: of the records.
        most: frames to show; None: all.
    """
    of_each = [followed(record) for record in records]
    limits = ((30.0,), (0.03,), (0.7,), (), ())
    panels = []
    for name, limit in zip(_OVER_TIME, limits, strict=True):
        curves = [
            Curve(np.arange(1.0, len(series[name]) + 1)[:most], series[name][:most], colour)
            for colour, series in enumerate(of_each)
            if name in series and np.isfinite(series[name]).any()
        ]
        if curves:
            panels.append(Panel(name, curves, limit))
    if not panels:
        return []
    return [Plot(title, draw(panels, 5, _POINTS), dict(enumerate(names)))]


def followed(record: Record) -> Series:
    """Return what is drawn of a record, under the names of the panels.

    Entropy and detail are relative to the teacher; where there is none, to the
    stream's own median, and its colour to that of its beginning.
    """
    series = record.series
    found: Series = {}
    style = record.run.style
    laps = "lap_psnr_blocks" if style in INDEX and STYLES[INDEX[style]].textured else "lap_psnr"
    if laps in series:
        found[_OVER_TIME[0]] = series[laps]
    shifts = [series[f"shift_{axis}"] for axis in "lab" if f"shift_{axis}" in series]
    if shifts:
        found[_OVER_TIME[1]] = np.sqrt(np.sum(np.square(shifts), axis=0))
    for panel, name in zip(_OVER_TIME[2:4], ("entropy", "detail"), strict=True):
        if f"{name}_y" in series:
            found[panel] = _relative(series[f"{name}_y"], series.get(f"{name}_s"))
    if "high_y" in series:
        found[_OVER_TIME[4]] = series["high_y"]
    return found


def _relative(values: Array, to: Array | None) -> Array:
    below = np.nanmedian(values) if to is None and np.isfinite(values).any() else to
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(values / (np.nan if below is None else below))


def _is_tested(record: Record) -> bool:
    run = record.run
    return run.kind in ("stream", "recorded") and run.control is None and run.guards


def _steps(record: Record) -> str:
    return f"{record.run.steps} step{'' if record.run.steps == 1 else 's'}"
