"""What of one stream is held to which limits, and on which inputs.

A rule takes a record and yields findings: nothing where the run lacks what the
rule needs, because it was too short or of another kind; a value that is NaN where
it should have been there. The limits are those of the protocol, and never wider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift import anew, trends
from lsd.lab.drift.finding import Finding, Rule
from lsd.lab.drift.inputs import INPUTS, LAP
from lsd.lab.drift.metrics import CAP_DB
from lsd.lab.drift.record import STRIDE, Record, Series
from lsd.lab.drift.twin_rules import ALIKE_DB, TEXTURED, exponent, gain, recovery
from lsd.stages.models.styles import STYLES
from lsd.stages.models.texture import PERIOD

Array: TypeAlias = NDArray[Any]

RATIOS = ("entropy", "detail", "saturation", "lightness")  # of which start and end are compared

_MIN_LAPS = 8  # to be judged at all
_TREND_DB = 0.5  # per 10,000 frames, either way
_SHORTEST = 84  # frames from which on the last tenth lies behind frame 75
_SETTLED = slice(trends.EARLY.start, None)  # frames; what comes before is the stream's beginning
_CHUNKED = 125  # from which on a tenth of what is settled holds a measured frame
_PREDICTED = 10 * STRIDE  # from which on the last tenth holds a prediction without history
_THIRD = 2  # laps before the texture repeats: all its layers have been renewed once
_PLAIN = {style.name for style in STYLES if not (style.textured or style.stateful)}


def findings(record: Record) -> Iterator[Finding]:
    """Judge one stream or one set of twins by the gates that are on for its input."""
    for rule, inputs in RULES[record.run.kind]:
        if record.run.input in inputs:
            yield from rule(record)


def collapse(record: Record) -> Iterator[Finding]:
    """ER = H(y) / H(S), where S has a bit or more to lose."""
    if (meant := record.series.get("entropy_s")) is None or not (meant >= 1).any():
        return
    value = trends.lowest_median(_where(meant >= 1, record.series["entropy_y"] / meant))
    yield Finding("colour collapse", value, low=0.7)


def colour(record: Record) -> Iterator[Finding]:
    """How far the mean colour is from the teacher's at the end, and moved since the start.

    The error of a network differs from place to place of the input, so that two
    windows differ without any drift: a loop that repeats to the bit for ever can
    fail. Therefore the note says how far the colour moved at the same places; on a
    pan, whose start and end have none in common, the end is compared with itself seen early.
    """
    if "shift_l" not in record.series or record.run.frames < _SHORTEST:
        return
    shift = [record.series[f"shift_{axis}"] for axis in "lab"]
    end = trends.late(record.run.frames)
    if not _is_pan(record):
        note = _alike(record, lambda early, late: trends.distance(shift, late, early))
        drift = trends.distance(shift, end, trends.EARLY)
        yield Finding("colour drift", drift, high=0.01, note=note)
    elif _is_comparable(record):
        moved = [record.series[f"shift_{axis}"] - record.series[f"early_{axis}"] for axis in "lab"]
        last = slice((anew.periods(record.run) - 1) * PERIOD, None)
        yield Finding("colour drift", trends.distance(moved, last), high=0.01)
    if "psnr_ys" in record.series:  # a recording alone has no teacher to be off
        yield Finding("colour offset", trends.distance(shift, end), high=0.03)


def fidelity(record: Record) -> Iterator[Finding]:
    """PSNR to the prediction without history, at the end; of styles that the frame decides."""
    values = record.series.get("psnr_free")
    if values is None or record.run.frames < _PREDICTED:
        return
    if record.run.style in _PLAIN:
        value = trends.mean(values[trends.late(record.run.frames)])
        yield Finding("fidelity to no history", value, low=28, unit=" dB")


def contrast(record: Record) -> Iterator[Finding]:
    """The video drifting error: the worst of four ratios to the teacher.

    From the early window on, as all that compares late with early: before, a style that lives
    on its own past has none. How exactly a network draws differs from place to place, and that
    is no drift: on a pan each ratio is that to the same place's seen early, and where a tenth of
    a loop is less than a lap, whole laps are compared.
    """
    if "entropy_s" not in record.series or record.run.frames < _CHUNKED:
        return
    if not _is_comparable(record):
        return
    laps = _laps_compared(record)
    if _is_pan(record):
        ratios = _beside_early
    else:
        ratios = partial(_by_lap, laps=laps) if laps else _beside_teacher
    found = {name: trends.contrast(ratios(record.series, name)) for name in RATIOS}
    note = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    note += f"; of {laps} laps" if laps else ""
    # max() of Python would drop a NaN that is not the first
    worst = float(np.max(list(found.values())))
    yield Finding("start-end contrast", worst, high=0.05, note=note)


def detail(record: Record) -> Iterator[Finding]:
    """Laplacian energy relative to the teacher's, late over early.

    The last tenth of a short loop shows other places than the early window; there each of the two
    is held against its own places at the other end, and the worse counts.
    """
    if "detail_s" not in record.series or record.run.frames < _SHORTEST:
        return
    of, to = record.series["detail_y"], record.series["detail_s"]

    def change(early: slice, late: slice) -> float:
        return trends.ratio(of[late], to[late]) / trends.ratio(of[early], to[early])

    with np.errstate(divide="ignore", invalid="ignore"):
        value = change(trends.EARLY, trends.late(record.run.frames))
        note = _alike(record, change)
        if _laps_compared(record):
            note = f"{note}; {value:.3g} at others"
            pairs = np.array([change(*pair) for pair in _same_places(record)])
            # max() of Python would drop a NaN that is not the first
            value = float(pairs[np.argmax(np.abs(np.log(pairs)))])
        yield Finding("detail", value, low=0.9, high=1.1, note=note)


def high(record: Record) -> Iterator[Finding]:
    """Slope of the share of high frequencies, from the third lap on: before, S changes too."""
    values = record.series.get("high_y")
    start = _THIRD * LAP
    if values is None or record.run.frames < start + 2 * LAP:
        return
    found = trends.slope(values[start:], LAP)
    yield Finding("high-frequency slope", found.value, -0.02, 0.02, note=_interval(found))


def laps(record: Record) -> Iterator[Finding]:
    """How like lap 3 the laps are: the last, since lap 4, and by trend.

    At the cap nothing is known but that it is good, so that the trend is that
    of what lies under it, where that is enough for one. An interval that is wider
    than what is allowed cannot tell it from noise: laps that differ by .05 dB give 8 of
    them a slope of +-.6, and by 1 dB 40 of them. There the trend is what the bootstrap
    has shown with 95 %, the end of its interval that is nearer to 0.
    """
    is_textured = record.run.style in TEXTURED
    values = record.series.get("lap_psnr_blocks" if is_textured else "lap_psnr")
    if values is None or record.run.frames < _MIN_LAPS * LAP:
        return
    note = "of 8x8 block means" if is_textured else ""
    means = trends.lap_means(values, LAP)
    yield Finding("lap", means[-1], low=30, unit=" dB", note=note)
    yield Finding("lap since lap 4", means[-1] - means[3], low=-1, unit=" dB", note=note)
    found = trends.slope(_where(values < CAP_DB, values), LAP)
    if not np.isfinite(found.low):
        found = trends.slope(values, LAP)
    is_sharp = found.high - found.low <= 2 * _TREND_DB
    value = found.value if is_sharp else found.shown
    note = "; ".join(part for part in (_interval(found), note) if part)
    yield Finding("lap trend", value, -_TREND_DB, _TREND_DB, " dB per 10,000 frames", note)
    if is_textured and "lap_spectrum" in record.series:
        value = trends.lap_means(record.series["lap_spectrum"], LAP)[-1]
        yield Finding("lap spectrum", value, high=ALIKE_DB, unit=" dB")


def temporal(record: Record) -> Iterator[Finding]:
    """EWE = 255 (E4(y) - E4(S)), from both sides: it falls when a stream collapses."""
    if "e4_s" not in record.series:
        return
    of, to = (255 * record.series[name][trends.EARLY.start :] for name in ("e4_y", "e4_s"))
    meant = trends.mean(to)
    note = f"of {meant:.2f} that the teacher has"
    yield Finding("temporal excess", trends.mean(of - to), -0.5 * meant, 1.5, "", note)


def motion(record: Record) -> Iterator[Finding]:
    """How much moves, relative to the teacher's picture."""
    if "motion_s" in record.series:
        value = trends.motion_ratio(record.series["motion_y"], record.series["motion_s"])
        yield Finding("motion ratio", value, 0.8, 1.25)


def lag(record: Record) -> Iterator[Finding]:
    """By how many frames the motion follows the teacher's.

    Not on for `pan`: it moves at one speed, so that its motion varies with what
    comes into view, slowly, and by a ripple of interpolation. Even the teacher's own
    follows itself by 8 frames as well as by none (correlation .99; .67 on `loop`).
    """
    if "motion_s" in record.series:
        value = trends.motion_lag(record.series["motion_y"], record.series["motion_s"])
        yield Finding("motion lag", abs(value), high=1, unit=" frame")


def flicker(record: Record) -> Iterator[Finding]:
    """How much changes where nothing moves, in grey levels."""
    if "motion_y" in record.series and record.run.frames > 11:
        value = 255 * float(record.series["motion_y"][11:].mean())
        yield Finding("static flicker", value, high=1, unit=" grey level")


def cut(record: Record) -> Iterator[Finding]:
    """Frames after a cut until PSNR to the teacher is back, at worst."""
    yield from _back(record, "cut", 3)


def switch(record: Record) -> Iterator[Finding]:
    """Frames after a style switch until PSNR to the teacher is back, at worst."""
    yield from _back(record, "switch", 10)


def resets(record: Record) -> Iterator[Finding]:
    """Pictures replaced or cut off from their history, but near cuts and switches."""
    value = 1e4 * record.counts["resets"] / record.counts["frames"]
    yield Finding("resets", value, high=1, unit=" per 10,000 frames")


def _back(record: Record, event: str, limit: float) -> Iterator[Finding]:
    psnr = record.series.get("psnr_ys")
    if psnr is None:
        return
    times = trends.returns(psnr, record.series[event] > 0)
    if times.size:
        yield Finding(f"back after a {event}", times.max(), high=limit, unit=" frames")


def _alike(record: Record, change: Callable[[slice, slice], float]) -> str:
    """Say what a change is between equal places of the loop: frames 26 to 75, and the last such."""
    if record.run.input != "loop" or record.run.frames < trends.EARLY.stop + LAP:
        return ""
    early, late = _same_places(record)[0]
    return f"{change(early, late):.3g} at the same places of the lap"


def _same_places(record: Record) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return two pairs of windows of a loop: an early one and a late one of the same places.

    The first begins with frames 26 to 75, the second ends with the last tenth.
    """
    early, late = trends.EARLY, trends.late(record.run.frames)
    on = (record.run.frames - early.stop) // LAP * LAP
    back = (late.start - early.start) // LAP * LAP
    return (
        (early, slice(early.start + on, early.stop + on)),
        (slice(late.start - back, late.stop - back), late),
    )


def _laps_compared(record: Record) -> int:
    """Return of how many laps start and end are compared; 0: of tenths, which are a lap or more.

    Of a loop that is too short for two whole laps, tenths are compared too.
    """
    laps = (record.run.frames - trends.EARLY.start) // LAP
    is_short = record.run.input == "loop" and record.run.frames // 10 < LAP
    return laps if is_short and laps > 1 else 0


def _by_lap(series: Series, name: str, laps: int) -> Array:
    """Return a figure's ratio to the teacher's in the first settled lap, and in the last ones."""
    of, to = series[f"{name}_y"], series[f"{name}_s"]
    first, last = (
        slice(trends.EARLY.start, trends.EARLY.start + LAP),
        slice(-(laps - 1) * LAP, None),
    )
    begin = trends.ratios(of[first], to[first], 1)
    return np.concatenate([begin, trends.ratios(of[last], to[last], laps - 1)])


def _beside_teacher(series: Series, name: str) -> Array:
    """Return a figure's ratio to the teacher's in each chunk of what is settled."""
    return trends.ratios(series[f"{name}_y"][_SETTLED], series[f"{name}_s"][_SETTLED])


def _beside_early(series: Series, name: str) -> Array:
    """Return, for each period of the texture, that ratio over the one of the same place early."""
    periods = len(series[f"{name}_y"]) // PERIOD
    whole = slice(periods * PERIOD)
    y, s, early, early_s = (series[f"{name}_{of}"][whole] for of in ("y", "s", "early", "early_s"))
    late = trends.ratios(_where(~np.isnan(early), y), s, periods)
    return np.asarray(late / trends.ratios(early, early_s, periods))


def _is_pan(record: Record) -> bool:
    """Return whether start and end show different places."""
    return record.run.input == "pan"


def _is_comparable(record: Record) -> bool:
    """Return whether start and end can be compared: a short pan has no place seen early."""
    return not _is_pan(record) or "entropy_early" in record.series


def _interval(slope: trends.Slope) -> str:
    return f"{slope.value:.3g}, {slope.low:.3g} to {slope.high:.3g} with 95 %"


def _where(kept: NDArray[np.bool_], values: Array) -> Array:
    return np.where(kept, values, np.nan)


_ALL = frozenset(INPUTS)
_CLEAN = frozenset({"loop", "pan", "aperiodic"})  # motion that is exact and without noise
_SAME = frozenset({"loop", "static", "pan"})  # one scene, one style
_LOOP = frozenset({"loop"})
_VIDEO = frozenset({"video"})

# by the kind of run: a rule, and the inputs on which it is a gate
RULES: dict[str, tuple[tuple[Rule, frozenset[str]], ...]] = {
    "stream": (
        (collapse, _ALL),
        (laps, _LOOP),
        (colour, _SAME),
        (fidelity, frozenset({"loop", "static"})),
        (contrast, _SAME),
        (detail, frozenset({"loop", "static"})),
        (high, _LOOP),
        (temporal, _CLEAN),
        (motion, _CLEAN),
        (lag, _CLEAN - {"pan"}),
        (flicker, frozenset({"static"})),
        (cut, frozenset({"cuts"})),
        (switch, frozenset({"switches"})),
        (resets, _ALL),
    ),
    "walk": (),
    "recovery": ((recovery, _LOOP), (gain, _LOOP)),
    "lyapunov": ((exponent, _LOOP),),
    "recorded": ((collapse, _VIDEO), (colour, _VIDEO), (contrast, _VIDEO), (detail, _VIDEO)),
}

# what is told of any run, gate or not
TOLD: tuple[Rule, ...] = (collapse, colour, fidelity, contrast, detail, temporal, motion, lag)
