"""A denoiser on a card whose denoise steps are captured graphs, one each."""

from __future__ import annotations

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

    A graph's addresses are fixed: what it reads is copied to places of its own first, what it makes
    is copied out, on the card. There is one graph for a noise level, with history and without, at
    the first step and later ones; it is captured when the step is first asked for. All share the
    places and the memory between, as they run one after the other.

    Args:
        inner: a denoiser of our kernels' ops, whose parameters lie on the card.
        card: the run's.
    """

    def __init__(self, inner: Denoiser, card: Card) -> None:
        self.model, self.engine = inner.model, f"{inner.engine}, captured"
        self._inner, self._card = inner, card
        self._pool = Pool("denoise steps")
        self._lane = Lane(card.device, card.compute, self._pool)
        self._places: dict[str, DeviceArray] = {}
        self._steps: dict[tuple[float, bool, bool], _Step] = {}

    def __call__(
        self, x: Any, sigma: float, frame: Any, history: Any, style: Any, estimate: Any = None
    ) -> Any:
        """See `Denoiser`; all pictures lie on the card."""
        given = {"x": x, "frame": frame, "history": history, "style": style, "estimate": estimate}
        places = {
            name: None if array is None else self._place(name, array)
            for name, array in given.items()
        }
        key = sigma, history is None, estimate is None
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = self._capture(sigma, places)
        step.graph.launch()
        made = layout_of("estimate", step.made[0])
        assert self._card.lane.memory is not None
        out = self._card.lane.memory.take(made.shape, made.dtype)
        copy_across(out.pointer, made.address, out.nbytes, self._card.lane.handle)
        return out

    def close(self) -> None:
        """Wait for the graphs that are queued, and let go of all; any thread may."""
        self._card.device.activate()
        self._card.compute.synchronize()
        for step in self._steps.values():
            step.graph.close()
        self._steps.clear()
        self._places.clear()
        self._pool.close()

    def _place(self, name: str, array: Any) -> DeviceArray:
        """Copy an input to where the graphs read it."""
        layout = layout_of(name, array)
        if name not in self._places:
            self._places[name] = self._pool.fresh(layout.shape, layout.dtype)
        place = self._places[name]
        copy_across(place.pointer, layout.address, place.nbytes, self._card.lane.handle)
        return place

    def _capture(self, sigma: float, places: dict[str, Any]) -> _Step:
        made: list[Any] = []

        def work() -> None:
            made.clear()  # the second run finds the first one's memory free, and takes no other
            x, frame, history, style, estimate = places.values()
            made.append(self._inner(x, sigma, frame, history, style, estimate))

        return _Step(Graph(self._lane, work, f"denoise at {sigma:.3g}"), made)


class _Step(NamedTuple):
    """One captured step.

    Attributes:
        graph: it.
        made: what it makes, alone in the list; named here, so that no other step takes its place.
    """

    graph: Graph
    made: list[Any]
