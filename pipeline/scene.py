"""What a simulated stream meets: costs as measured, a load, a noise of its own for each frame."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from lsd.pipeline.frame import Size
from lsd.pipeline.ladder import Rung, rungs_for, useful
from lsd.pipeline.load import Load

# Whole frames in ms by pixels, one denoise step, one after the other: README.md, "Speed", the
# older processor with bf16.
_FRAME_MS = ((128 * 128, 7.1), (256 * 256, 16.4), (384 * 384, 28.7), (512 * 512, 48.4))
_NETWORK_MS = 8.3  # of it at 256x256; grows with the pixels
_STEP_MS = 6.0  # a further step at 256x256, measured 3 to 8; grows likewise
_REST_SHARE = 0.15  # of a frame of one step lies behind the diffusion: memory, blend
HAND_OVER_NS = 700_000  # the pipeline's own overhead: README.md, "Speed"
NOISE = 0.05  # standard deviation of a service time's logarithm


class Cost(NamedTuple):
    """What a rung takes on the idle machine.

    Attributes:
        first_ns: up to the end of the first denoise step; of a reuse, all.
        step_ns: each further step.
        rest_ns: behind the last.
    """

    first_ns: int
    step_ns: int = 0
    rest_ns: int = 0

    def of(self, steps: int) -> int:
        """Return what a frame of `steps` steps takes."""
        return self.first_ns + max(0, steps - 1) * self.step_ns + self.rest_ns


def measured_cost(rung: Rung) -> Cost:
    """Return what a rung took where it was measured, or lies between what was."""
    pixels = rung.size.width * rung.size.height
    frame_ms, share = _between(pixels), pixels / 256**2
    if rung.is_reuse:  # all but the network; the warp is not more than what else it does
        return Cost(round((frame_ms - _NETWORK_MS * share) * 1e6))
    rest_ms = _REST_SHARE * frame_ms
    return Cost(*(round(ms * 1e6) for ms in (frame_ms - rest_ms, _STEP_MS * share, rest_ms)))


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens to a stream, whoever schedules it.

    Attributes:
        rungs: the ladder.
        costs: of each rung.
        load: what slows the machine down.
        rate_hz: pictures a second.
        latency_ns: from capture to the hand-over.
        frames: how many are captured.
        noise: of each frame, a factor on its work; the same whatever is done with it.
        hand_over_ns: from the end of the work to the sinks.
    """

    rungs: tuple[Rung, ...]
    costs: tuple[Cost, ...]
    load: Load
    rate_hz: float
    latency_ns: int
    frames: int
    noise: tuple[float, ...]
    hand_over_ns: int = HAND_OVER_NS

    def captured_ns(self, seq: int) -> int:
        """Return when frame `seq` is captured."""
        return round(seq * 1e9 / self.rate_hz)

    def calibrated_ns(self) -> list[int]:
        """Return what each rung takes on the idle machine, without noise."""
        return [c.of(rung.steps) for rung, c in zip(self.rungs, self.costs, strict=True)]


def noise_of(frames: int, seed: int, spread: float = NOISE) -> tuple[float, ...]:
    """Draw the noise of `frames` frames, log-normal."""
    draw = random.Random(seed)
    return tuple(draw.lognormvariate(0, spread) for _ in range(frames))


def scene_of(
    size: Size,
    steps: int,
    *,
    rate_hz: float,
    latency_ms: float,
    load: Load,
    seconds: float,
    seed: int,
    frame_ms: float | None = None,
) -> Scene:
    """Make the scene of a pipeline, with the ladder that it would have.

    Args:
        size: of the best rung.
        steps: of the best rung.
        rate_hz: pictures a second.
        latency_ms: from capture to the hand-over.
        load: what slows the machine down.
        seconds: how long pictures are captured.
        seed: draws the noise.
        frame_ms: what a frame of the best rung takes on the idle machine; all rungs are
            scaled by it. None: as on the machine of the README.
    """
    rungs = rungs_for(size, steps)
    costs = [measured_cost(rung) for rung in rungs]
    if frame_ms is not None:
        scale = frame_ms * 1e6 / costs[0].of(steps)
        costs = [Cost(*(round(part * scale) for part in cost)) for cost in costs]
    by_rung = dict(zip(rungs, costs, strict=True))
    rungs, _ = useful(rungs, [by_rung[rung].of(rung.steps) for rung in rungs])
    return Scene(
        rungs=rungs,
        costs=tuple(by_rung[rung] for rung in rungs),
        load=load,
        rate_hz=rate_hz,
        latency_ns=round(latency_ms * 1e6),
        frames=round(seconds * rate_hz),
        noise=noise_of(round(seconds * rate_hz), seed),
    )


def quality_of(rungs: Sequence[Rung], rung: Rung, steps: int) -> float:
    """Return the quality of a frame of `rung` that took `steps` steps."""
    found = (each.quality for each in rungs if (each.steps, each.size) == (steps, rung.size))
    return next(found, rung.quality)


def _between(pixels: int) -> float:
    """Return what a frame of that many pixels takes, ms; along the lines between the measured."""
    pairs = list(pairwise(_FRAME_MS))
    fitting = [pair for pair in pairs if pixels <= pair[1][0]]
    (x0, y0), (x1, y1) = fitting[0] if fitting else pairs[-1]
    return y0 + (pixels - x0) * (y1 - y0) / (x1 - x0)
