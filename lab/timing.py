"""Times variants in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing to time.

    Attributes:
        run: what is timed; gets what `prepare` returned.
        prepare: called before every run, not timed.
        burst: runs in a row whenever it is this variant's turn.
        discard: how many runs at the start of a burst don't count: caches are
            cold then, and threads of the variant before may still spin.
    """

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None
    burst: int = 4
    discard: int = 1


@dataclass(slots=True)
class Timing:
    """What the runs of one variant took, in milliseconds.

    Attributes:
        wall_ms: by the clock on the wall; other programs' turns included.
        cpu_ms: all threads of this process together.
    """

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def wall(self, percentile: float) -> float:
        """Return a percentile of the wall time, nearest rank."""
        return nearest_rank(self.wall_ms, percentile)

    def cpu(self, percentile: float) -> float:
        """Return a percentile of the processor time, nearest rank."""
        return nearest_rank(self.cpu_ms, percentile)

    def to_json(self) -> dict[str, Any]:
        """Return count, wall percentiles and the median of the processor time."""
        wall = {f"p{p}": round(self.wall(p), 4) for p in (50, 95, 99)}
        return {"runs": len(self.wall_ms), "wall_ms": wall, "cpu_ms": round(self.cpu(50), 4)}


def interleave(
    variants: Mapping[K, Variant],
    rounds: int,
    *,
    wall_ns: Callable[[], int] = time.perf_counter_ns,
    cpu_ns: Callable[[], int] = time.process_time_ns,
) -> dict[K, Timing]:
    """Run every variant in every round, a burst each, in order.

    Args:
        variants: name -> what to time.
        rounds: how many turns each gets, 1 or more.
        wall_ns: where wall time comes from.
        cpu_ns: where processor time comes from.

    Returns:
        name -> rounds * (burst - discard) runs.
    """
    timings = {name: Timing() for name in variants}
    with _no_collection():
        for _ in range(rounds):
            for name, variant in variants.items():
                for place in range(variant.burst):
                    argument = variant.prepare()
                    wall, cpu = wall_ns(), cpu_ns()
                    variant.run(argument)
                    cpu_end, wall_end = cpu_ns(), wall_ns()
                    if place >= variant.discard:
                        timings[name].wall_ms.append((wall_end - wall) / 1e6)
                        timings[name].cpu_ms.append((cpu_end - cpu) / 1e6)
    return timings


def nearest_rank(values: list[float], percentile: float) -> float:
    """Return the smallest value that `percentile` % of all do not exceed.

    >>> nearest_rank([4.0, 1.0, 3.0, 2.0], 50), nearest_rank([4.0, 1.0, 3.0, 2.0], 99)
    (2.0, 4.0)
    """
    return float(np.percentile(values, percentile, method="inverted_cdf"))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Freeze what is there now, as a run does: full collections take 100 ms and more."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
