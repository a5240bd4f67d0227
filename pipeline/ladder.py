"""The quality ladder: the ways to make a frame, best first, and what each costs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

from lsd.pipeline.frame import Size

# Sides beside those of the best rung, and what a picture made so is worth: its SSIM to the
# best rung's, enlarged (demo clip, 384x384, mean of `ink` and `poster`; docs/budget.md). A
# rung each, and few of them: every size has its network compiled and warmed at start.
SCALES = {1.0: 1.0, 5 / 6: 0.922, 3 / 4: 0.856, 2 / 3: 0.769, 1 / 2: 0.559}
# Those that a run takes unless its YAML names others: it waits for each to be compiled.
COMPILED = (3 / 4, 1 / 2)
# Measured likewise, one step against two is worth 0.997; that what is missing halves with
# every further step is an assumption.
_STEP_LOSS = 0.012
# What a picture keeps of its worth when it is warped to the next frame: measured likewise,
# 0.98, 0.96 and 0.92 after one, two and four frames. Further was not looked.
REUSE_QUALITY = 0.98
MOST_REUSED = 4  # in a row; the picture has to be renewed
SIDE_STEP, SIDE_MIN = 16, 64  # what the network takes; see SIZE_STEP in config.py

WINDOW = 20  # service times that predict the next
_ENOUGH = 5  # of them on one rung, to predict it by its own
# A tenth of the service times lie above their p90 anyhow. One that lies this far above says
# that the load is another one: with 5 % of noise that is beyond four standard deviations.
_SURPRISE = 1.15
_CALM = 6  # frames in a row that far below it say so too; what came before them is forgotten


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to make a frame.

    Attributes:
        steps: denoise steps; 0: the last output, warped by the input's motion.
        size: of the picture that the network works on.
        quality: what such a frame is worth beside the best rung's, in (0, 1]; of the
            reuse, what the last output keeps of its own.
    """

    steps: int
    size: Size
    quality: float

    def __post_init__(self) -> None:
        assert self.steps >= 0, f"a frame takes 0 steps or more, not {self.steps}"
        assert 0 < self.quality <= 1, f"quality lies in (0, 1], not at {self.quality}"

    @property
    def is_reuse(self) -> bool:
        """Whether the last output is used again."""
        return self.steps == 0

    def __str__(self) -> str:
        if self.is_reuse:
            return "reuse"
        return f"{self.size}, {self.steps} step{'s' if self.steps > 1 else ''}"


class RungSpec(NamedTuple):
    """A rung as the YAML names it; None stands for what the pipeline has."""

    steps: int | None = None
    size: Size | None = None
    is_reuse: bool = False


# Derived from the pipeline; none, nor a budget; or these, best first.
Ladder: TypeAlias = Literal["auto", "off"] | tuple[RungSpec, ...]


def rungs_of(
    specs: Sequence[RungSpec], size: Size, steps: int, *, with_reuse: bool = True
) -> tuple[Rung, ...]:
    """Make the rungs that a YAML names.

    >>> [str(rung) for rung in rungs_of([RungSpec(), RungSpec(1, Size(96, 96))], Size(128, 128), 2)]
    ['128x128, 2 steps', '96x96, 1 step']

    Args:
        specs: best first.
        size: of the pipeline.
        steps: that the stage's options say.
        with_reuse: False leaves the reuse out, where nothing could be used again.
    """
    rungs = [
        Rung(0, size, REUSE_QUALITY)
        if spec.is_reuse
        else Rung(spec.steps or steps, spec.size or size, 1.0)
        for spec in specs
        if with_reuse or not spec.is_reuse
    ]
    most = max((rung.steps for rung in rungs), default=1)
    return tuple(
        rung if rung.is_reuse else Rung(rung.steps, rung.size, _quality(rung, size, most))
        for rung in rungs
    )


def rungs_for(
    size: Size, steps: int, *, with_reuse: bool = True, scales: Sequence[float] = tuple(SCALES)
) -> tuple[Rung, ...]:
    """Derive a ladder: fewer steps first, then smaller pictures, then the last output again.

    Steps go first because they buy least, and because a frame may stop between two of
    them: what it then is stands on the ladder too. A stream does not stay on the last
    rung, which only fills a gap: the picture that it warps has to be renewed.

    >>> [str(rung) for rung in rungs_for(Size(192, 128), 2)[:3]]
    ['192x128, 2 steps', '192x128, 1 step', '160x112, 1 step']

    Args:
        size: of the best rung, in multiples of 16.
        steps: of the best rung, 1 or more.
        with_reuse: whether the last rung is the reuse.
        scales: sides of the smaller pictures beside those of the best rung, of SCALES.
    """
    assert steps >= 1, f"the best rung takes a denoise step or more, not {steps}"
    ladder = [Rung(n, size, _step_quality(n, steps)) for n in range(steps, 0, -1)]
    for scale in sorted(scales, reverse=True):
        quality = SCALES[scale]
        smaller = Size(*(_side(side, scale) for side in size))
        if smaller.width * smaller.height < ladder[-1].size.width * ladder[-1].size.height:
            ladder.append(Rung(1, smaller, quality * _step_quality(1, steps)))
    if with_reuse:
        ladder.append(Rung(0, size, REUSE_QUALITY))
    return tuple(ladder)


def useful(
    rungs: Sequence[Rung], costs_ns: Sequence[int]
) -> tuple[tuple[Rung, ...], tuple[int, ...]]:
    """Leave out every rung that costs as much as the one before it.

    Args:
        rungs: best first.
        costs_ns: what each takes, calibrated.

    Returns:
        what is left, and its costs, which fall.
    """
    assert len(rungs) == len(costs_ns) > 0, "every rung has a cost, and there is one"
    kept = [(rungs[0], costs_ns[0])]
    for rung, cost_ns in zip(rungs[1:], costs_ns[1:], strict=True):
        if cost_ns < kept[-1][1]:
            kept.append((rung, cost_ns))
    return tuple(rung for rung, _ in kept), tuple(cost_ns for _, cost_ns in kept)


class CostModel:
    """Predicts what a frame will take on each rung, from service times and nothing else.

    How long nothing was to do says nothing about what a frame costs, and so is not asked.

    Example (the best rung has become slower by half; so will be the other):

    >>> costs = CostModel([20_000_000, 10_000_000])
    >>> for _ in range(20):
    ...     costs.observe(0, 30_000_000)
    >>> costs.predict(0), costs.predict(1)
    (30000000, 15000000)

    Args:
        calibrated_ns: what each rung takes, measured at start, best first and falling.
    """

    def __init__(self, calibrated_ns: Sequence[int]) -> None:
        assert all(above > below > 0 for above, below in pairwise(calibrated_ns)), (
            "costs fall along the ladder"
        )
        self.calibrated_ns = tuple(calibrated_ns)
        self._recent: deque[tuple[int, int]] = deque(maxlen=WINDOW)
        self._predicted: dict[int, int] = {}
        self._change = self._last = 1.0

    @property
    def change(self) -> float:
        """p90 of service time over calibrated cost, of the recent frames on all rungs."""
        return self._change

    def observe(self, place: int, service_ns: int) -> None:
        """Note what a frame on rung number `place` took."""
        self._recent.append((place, service_ns))
        changes = [took / self.calibrated_ns[at] for at, took in self._recent]
        self._last, self._change = changes[-1], p90(changes)
        if max(changes[-_CALM:]) * _SURPRISE < self._change:
            self._recent = deque(list(self._recent)[-_CALM:], maxlen=WINDOW)
            self._change = p90(changes[-_CALM:])
        self._predicted.clear()

    def predict(self, place: int) -> int:
        """Return what the next frame on rung number `place` will hardly exceed, ns.

        The p90 of its own among the recent service times; of a rung that hardly ran
        lately, its calibrated cost times the others' change. When the last frame was
        out of all proportion, the next is expected to be as slow; when the last six were
        that much faster than those before, these count no more.
        """
        if place not in self._predicted:
            self._predicted[place] = self._predict(place)
        return self._predicted[place]

    def _predict(self, place: int) -> int:
        calibrated = self.calibrated_ns[place]
        own = [took for at, took in self._recent if at == place]
        usual = p90(own) if len(own) >= _ENOUGH else calibrated * self._change
        if self._last > _SURPRISE * self._change:
            usual = max(usual, calibrated * self._last)
        return round(usual)


def p90(values: Sequence[float]) -> float:
    """Return the 90th percentile, by nearest rank.

    >>> p90(range(1, 21))
    18
    """
    return sorted(values)[-(-9 * len(values) // 10) - 1]


def _quality(rung: Rung, size: Size, most_steps: int) -> float:
    """Return what a picture of any size and steps is worth; along lines between SCALES."""
    scale = math.sqrt(rung.size.width * rung.size.height / (size.width * size.height))
    known = sorted({0.0: 0.0, **SCALES}.items())
    pairs = [pair for pair in pairwise(known) if scale <= pair[1][0]]
    (x0, y0), (x1, y1) = pairs[0] if pairs else known[-2:]
    worth = min(1.0, y0 + (scale - x0) * (y1 - y0) / (x1 - x0))
    return worth * _step_quality(rung.steps, most_steps)


def _side(side: int, scale: float) -> int:
    return max(SIDE_MIN, round(side * scale / SIDE_STEP) * SIDE_STEP)


def _step_quality(steps: int, most: int) -> float:
    """Return what a picture of `steps` steps is worth beside one of `most`."""
    return (1 - _STEP_LOSS * 0.5**steps) / (1 - _STEP_LOSS * 0.5**most)
