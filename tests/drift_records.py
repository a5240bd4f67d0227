"""Made-up records, verdicts and recordings for the tests of the drift lab's report."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from lsd.lab.drift.gates import Control, Figures, Gate, Verdict
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.shocks import SHOCKS

SCENE = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
LOOP = Run("ink", 1, "loop", 7, 300)
SHOCKED = replace(LOOP, frames=70, kind="recovery")
PERTURBED = replace(LOOP, frames=90, kind="lyapunov")


def stream(run=LOOP, side=16, shown=(1, 100)):
    """A stream of noise: series on every fifth frame, as measure leaves them."""
    random = np.random.default_rng(run.seed)
    base = {
        "entropy_y": 5, "entropy_s": 5, "detail_y": 1, "detail_s": 1, "high_y": 0.1,
        "shift_l": 0.01, "shift_a": 0, "shift_b": 0, "lap_psnr": 40,
    }  # fmt: skip
    series = {}
    for name, level in base.items():
        series[name] = np.full(run.frames, np.nan)
        series[name][::5] = level + 0.01 * random.standard_normal(len(series[name][::5]))
    for channel in "rgb":
        series[channel] = 0.5 + 0.01 * random.standard_normal(run.frames)
    sheets = {
        n: random.integers(0, 256, (side, 3 * side, 3), np.uint8) for n in shown if n <= run.frames
    }
    counts = {"frames": run.frames, "resets": 0, "resets near cuts": 0}
    return Record(run, series, sheets=sheets, counts=counts, seconds=1.5)


def recovery(run=SHOCKED):
    """Shocks that are forgotten at a gain of .8."""
    curves = {}
    for number, shock in enumerate(SHOCKS):
        curve = 0.8 ** np.arange(31.0) * (number + 1) / len(SHOCKS)
        curves[shock] = np.full(31, np.nan) if shock == "nan" else curve
    return Record(run, {}, curves=curves, counts={"frames": 700, "rejected: not finite": 1})


def lyapunov(run=PERTURBED):
    return Record(run, {}, curves={"growth": np.full(50, -0.2)}, counts={"frames": 90})


def records():
    """Return a little of everything."""
    walks = [replace(LOOP, kind="walk", seed=seed) for seed in (7, 8)]
    return [
        stream(),
        stream(replace(LOOP, input="static")),
        stream(replace(LOOP, guards=False)),
        stream(replace(LOOP, control="integrator")),
        recovery(),
        lyapunov(),
        *map(stream, walks),
    ]


def gate(name="lap/ink-1step-loop", value=31.5, passed=True, limit=">= 30 dB", note=""):
    return Gate(name, name.partition("/")[0], value, limit, passed, note)


def verdict(gates=None, control_fails=True, of=None):
    """Return a verdict on `records()` or those given; without `gates`, on one that is met."""
    sick = gate("colour drift/ink-1step-loop", 0.4, not control_fails, "<= 0.01")
    figures = [
        Figures(record.run, {"lap": 31.5, "variance late": 0.05, "lost": float("nan")})
        for record in (of or records())
    ]
    return Verdict(
        tuple([gate()] if gates is None else gates),
        (Control("integrator", (gate(), sick)),),
        tuple(figures),
    )


def scene(n, side=8):
    """A picture of soft patches that sway: uint8 [6 side, 8 side, 3]."""
    large = cv2.resize(SCENE, (12 * side, 10 * side), interpolation=cv2.INTER_CUBIC)
    left = round(2 * side * (1 + np.sin(n / 6)))
    return np.ascontiguousarray(large[side : 7 * side, left : left + 8 * side])


def write_pictures(path, draw, count):
    """Write a folder of PNGs: the same for video, without a codec's loss."""
    path.mkdir()
    for n in range(count):
        pixels = cv2.cvtColor(draw(n), cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(path / f"{n}.png"), pixels)
    return str(path)
