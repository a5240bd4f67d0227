"""What of streams that differ in one thing is held to which limits: twins, and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lsd.lab.drift import trends
from lsd.lab.drift.finding import Finding
from lsd.lab.drift.inputs import LAP
from lsd.lab.drift.record import Record
from lsd.lab.drift.shocks import SHOCKS
from lsd.stages.models.styles import STYLES

ALIKE_DB = 10 * float(np.log10(1.1))  # distance of spectra: the tenth that detail may change by
TEXTURED = frozenset(style.name for style in STYLES if style.textured)

_BY = 15  # frames after a shock by which it is over
_NEAR = 10 ** (-30 / 20)  # RMS of 30 dB, for shocks that have no size


def recovery(record: Record) -> Iterator[Finding]:
    """Frames after each shock until the twins are one again, and their spectra at frame 15.

    Once recovered they must stay so for the 30 frames that are followed.
    """
    worst = 0.0
    for name in SHOCKS:
        if name not in record.curves:
            continue
        d, rms = record.curves[name], record.curves[f"{name}:rms"]
        near = trends.FLOOR if np.isfinite(d[0]) else _NEAR  # d of NaN is never <= .1
        value = trends.time_to((d <= 0.1) | (rms <= near))
        yield Finding(
            f"recovery: {name}", value, high=_BY, unit=" frames", note=f"d_15 {d[_BY]:.3g}"
        )
        worst = float(np.maximum(worst, record.curves[f"{name}:spectrum"][_BY:].max()))
    if record.run.style in TEXTURED:
        yield Finding("recovery: spectrum", worst, high=ALIKE_DB, unit=" dB")


def gain(record: Record) -> Iterator[Finding]:
    """The gain on history that the worst of the shocks shows."""
    found = gains(record)
    if found:
        worst = float(np.max(list(found.values())))
        name = max(found, key=lambda name: np.nan_to_num(found[name], nan=np.inf))
        yield Finding("loop gain", worst, high=0.9, note=f"after {name}")


def gains(record: Record) -> dict[str, float]:
    """Return the gain on history that each shock shows: on its way down, and at the floor."""
    found = {}
    for name in SHOCKS:
        if name not in record.curves or name == "nan":
            continue
        rms = record.curves[f"{name}:rms"]
        unknown = np.full_like(rms, np.nan)  # in records of before
        carried, kept = (record.curves.get(f"{name}:{of}", unknown) for of in ("carried", "kept"))
        left, at_floor = trends.without_noise(rms, carried, kept)
        found[name] = max(trends.loop_gain(left / rms[0], left), at_floor)
    return found


def exponent(record: Record) -> Iterator[Finding]:
    """The largest Lyapunov exponent a frame."""
    value = float(record.curves["growth"].mean())
    yield Finding("Lyapunov exponent", value, high=0.0, is_open=True)


def walk(records: Sequence[Record]) -> Iterator[Finding]:
    """How far apart streams are that differ in their seed only, beside lap 2: the worst channel.

    Args:
        records: of one style, a seed each.
    """
    frames = min(record.run.frames for record in records)
    if frames < 3 * LAP or len(records) < 2:
        return
    means = 255 * np.array([[record.series[c][:frames] for c in "rgb"] for record in records])
    end = slice((frames // LAP - 1) * LAP, frames // LAP * LAP)
    now, limit = trends.spread(means, end), 1.5 * trends.spread(means, slice(LAP, 2 * LAP)) + 0.5
    c = int(np.argmax(now - limit))
    bound = trends.spread_bound(means, end)[c]
    note = f"{'RGB'[c]} of {len(records)} seeds, below {bound:.2f} with 95 %"
    yield Finding("random walk", now[c], high=limit[c], unit=" grey levels", note=note)
