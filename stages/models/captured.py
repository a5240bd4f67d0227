"""A denoiser on a card whose denoise steps are captured graphs, one each."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from lsd.kernels.array import DeviceArray, Pool
from lsd.kernels.card import Card
from lsd.kernels.driver import copy_across
from lsd.kernels.graph import Graph
from lsd.kernels.lanes import Lane
from lsd.kernels.plans.buffers import layout_of
from lsd.stages.models.denoiser import Denoiser


class CapturedDenoiser:
    """Replays what `inner` queues for a denoise step, in one call.

    A graph's addresses are fixed: what it reads is copied to its own arrays first, what it makes is
    copied out, on the card. There is one graph for a noise level, with history and without, at the
    first step and later ones; it is captured when the step is first asked for.

    Args:
        inner: a denoiser of our kernels' ops, whose parameters lie on the card.
        card: the run's.
    """

    def __init__(self, inner: Denoiser, card: Card) -> None:
        self.model, self.engine = inner.model, f"{inner.engine}, captured"
        self._inner, self._card = inner, card
        self._steps: dict[tuple[float, bool, bool], _Step] = {}

    def __call__(
        self, x: Any, sigma: float, frame: Any, history: Any, style: Any, estimate: Any = None
    ) -> Any:
        """See `Denoiser`; all pictures lie on the card."""
        given = x, frame, history, style, estimate
        key = sigma, history is None, estimate is None
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = _Step.capture(self._inner, self._card, sigma, given)
        return step(self._card, given)

    def close(self) -> None:
        """Wait for the graphs that are queued, and let go of all; any thread may."""
        self._card.device.activate()
        self._card.compute.synchronize()
        for step in self._steps.values():
            step.close()
        self._steps.clear()


class _Step(NamedTuple):
    """One captured step.

    Attributes:
        graph: it.
        inputs: what it reads; None for what the step has not.
        made: what it makes, alone in the list.
        pool: the memory of both, and of what lies between.
    """

    graph: Graph
    inputs: tuple[DeviceArray | None, ...]
    made: list[Any]
    pool: Pool

    @classmethod
    def capture(cls, inner: Denoiser, card: Card, sigma: float, given: tuple[Any, ...]) -> _Step:
        pool = Pool("a denoise step")
        inputs = tuple(None if array is None else _like(pool, array) for array in given)
        _copy(inputs, given, card)
        made: list[Any] = []
        work = partial(_denoise, inner, inputs, sigma, made)
        lane = Lane(card.device, card.compute, pool)
        return cls(Graph(lane, work, f"denoise at {sigma:.3g}"), inputs, made, pool)

    def __call__(self, card: Card, given: tuple[Any, ...]) -> DeviceArray:
        _copy(self.inputs, given, card)
        self.graph.launch()
        assert card.lane.memory is not None
        layout = layout_of("estimate", self.made[0])
        out: DeviceArray = card.lane.memory.take(layout.shape, layout.dtype)
        _copy((out,), (self.made[0],), card)
        return out

    def close(self) -> None:
        self.graph.close()
        self.pool.close()


def _denoise(inner: Denoiser, inputs: tuple[Any, ...], sigma: float, made: list[Any]) -> None:
    x, frame, history, style, estimate = inputs
    made.clear()  # the second run finds the first one's memory free, and takes no other
    made.append(inner(x, sigma, frame, history, style, estimate))


def _like(pool: Pool, array: Any) -> DeviceArray:
    layout = layout_of("input", array)
    return pool.fresh(layout.shape, layout.dtype)


def _copy(into: tuple[Any, ...], given: tuple[Any, ...], card: Card) -> None:
    for mine, theirs in zip(into, given, strict=True):
        if mine is not None:
            source = layout_of("input", theirs).address
            copy_across(mine.pointer, source, mine.nbytes, card.lane.handle)
