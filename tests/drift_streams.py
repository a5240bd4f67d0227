"""Small streams with known faults, measured as the lab measures its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from lsd.lab.drift import metrics
from lsd.lab.drift.gates import Gate, Verdict
from lsd.lab.drift.inputs import LAP, Motion, open_input
from lsd.lab.drift.record import Record, Run
from lsd.lab.drift.shocks import SHOCKS
from lsd.lab.teachers import poster
from lsd.pipeline.frame import Size

Array: TypeAlias = NDArray[Any]
Maker: TypeAlias = Callable[[int, Array, Array, Motion], Array]  # n, S, last y, motion -> y

SIDE = 64
NOISE = 0.002  # half a grey level, as a good stream has it


class Lap(NamedTuple):
    """One round of an input: the pictures, the teacher's, and the motion to each."""

    x: list[Array]
    s: list[Array]
    motion: list[Motion]
    change: list[float]  # mean |s - the one before|


@lru_cache
def lap(name: str) -> Lap:
    source = open_input(name, Size(SIDE, SIDE))
    places = range(source.period or LAP)
    x = [source.pixels(n).astype(np.float32) / 255 for n in places]
    found = [source.motion(n + len(places)) for n in places]
    motion = [m for m in found if m is not None]
    s = [poster(picture, picture).astype(np.float32) for picture in x]
    return Lap(x, s, motion, [apart(s[n], s[n - 1]) for n in places])


@lru_cache
def noises() -> Array:
    # 31 has no divisor in common with a lap: no two laps are alike
    return np.random.default_rng(3).standard_normal((31, SIDE, SIDE, 3), np.float32)


def noise(n: int, std: float = NOISE) -> Array:
    return np.float32(std) * noises()[n % 31]


def healthy(n: int, s: Array, before: Array, motion: Motion) -> Array:
    return s + noise(n)


def stream(make: Maker, frames: int, name: str = "loop", **facts: Any) -> Record:
    """Run and measure a stream; `facts` are those of its Run, but for style poster."""
    own, every = lap(name), 10 if frames <= 1_000 else 25
    series: dict[str, Array] = {}
    before, third = own.s[0], {}
    for n in range(frames):
        place = n % len(own.s)
        s, motion = own.s[place], own.motion[place]
        y = make(n, s, before, motion)
        found = dict(zip("rgb", cv2.mean(y), strict=False))
        if n > 0:
            found |= {"motion_y": apart(y, before), "motion_s": own.change[place]}
        if n % every == 0:
            found |= metrics.figures(y, s, own.x[place]) | _laps(n, y, third)
            found |= metrics.temporal(y, before, s, own.s[place - 1], *motion) if n else {}
            found["psnr_free"] = metrics.psnr(y, s)
        for key, value in found.items():
            if key not in series:
                series[key] = np.full(frames, np.nan)
            series[key][n] = value
        before = y
    series |= {name: np.zeros(frames) for name in ("cut", "switch", "reset")}
    run = Run(**{"style": "poster", "steps": 1, "input": name, "seed": 7, "frames": frames} | facts)
    return Record(run, series, counts={"frames": frames, "resets": 0, "resets near cuts": 0})


def _laps(n: int, y: Array, third: dict[int, Array]) -> dict[str, float]:
    number, place = divmod(n, LAP)
    if number < 2:
        return {}
    if number == 2:
        third[place] = y
        return {}
    blocks, others = (metrics.block_means(picture, 8) for picture in (y, third[place]))
    return {
        "lap_psnr": metrics.lap_psnr(grey(y), grey(third[place])),
        "lap_psnr_blocks": metrics.lap_psnr(grey(blocks), grey(others)),
        "lap_spectrum": metrics.spectrum_distance(y, third[place]),
    }


def apart(a: Array, b: Array) -> float:
    return float(cv2.norm(a, b, cv2.NORM_L1)) / a.size


def grey(y: Array) -> NDArray[np.uint8]:
    return np.round(255 * y.clip(0, 1)).astype(np.uint8)


def walks(step: float, frames: int = 2_000) -> list[Record]:
    """Streams of 8 seeds, each with a colour of its own that walks by `step` a frame."""
    random = np.random.default_rng(5)
    records = []
    for seed in range(8):
        start = 0.5 + 0.01 * random.standard_normal((3, 1))
        ways = start + step * random.standard_normal((3, frames)).cumsum(axis=1)
        series = dict(zip("rgb", ways, strict=True))
        run = Run("brush", 1, "loop", seed, frames, "walk")
        counts = {"frames": frames, "resets": 0, "resets near cuts": 0}
        records.append(Record(run, series, counts=counts))
    return records


def shocked(gain: float = 0.7, style: str = "poster", control: str | None = None) -> Record:
    """Twins that come together by `gain` a frame, after every shock."""
    d = gain ** np.arange(31.0)
    curves = {}
    for name in SHOCKS:
        curves[name] = d if name != "nan" else np.full(31, np.nan)
        curves[f"{name}:rms"] = 0.3 * d if name != "nan" else np.r_[np.nan, 0.3 * d[1:]]
        curves[f"{name}:spectrum"] = 5 * d
    return Record(Run(style, 1, "loop", 7, 70, "recovery", control), {}, curves=curves)


def grown(growth: float = -0.2, style: str = "poster") -> Record:
    """A perturbation that grows by `growth` a frame, as a logarithm."""
    return Record(
        Run(style, 1, "loop", 7, 90, "lyapunov"), {}, curves={"growth": np.full(50, growth)}
    )


def failed(verdict: Verdict) -> set[str]:
    return {gate.metric for gate in verdict.gates if not gate.passed}


def gate(verdict: Verdict, metric: str) -> Gate:
    (found,) = (gate for gate in verdict.gates if gate.metric == metric)
    return found


def metrics_of(verdict: Verdict) -> set[str]:
    return {gate.metric for gate in verdict.gates}
