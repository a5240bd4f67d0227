"""Torch's work on a card, captured once for each kind of call and replayed in one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Work = Callable[..., Tensor]


class Step(NamedTuple):
    """One captured call.

    Attributes:
        replay: queues it anew on the stream that it was captured on.
        made: its result, in the same memory each time.
    """

    replay: Callable[[], None]
    made: Tensor


class Replayed:
    """Calls a torch function by replaying what it once queued.

    A small network's time on a card is the host's, which launches kernel after kernel that run
    in a fraction of the time (docs/card.md: 5.1 ms a frame). A replay is one launch. Its
    addresses are fixed, so that the inputs are copied to places of their own first and the
    result is copied out. All captures share their places and the memory between, as they run
    one after the other.

    Args:
        capture: runs a work for real, then captures it; torch's own by default.
    """

    def __init__(self, capture: Callable[[Callable[[], Tensor]], Step] | None = None) -> None:
        self._capture = capture or _Capture()
        self._places: dict[str, Tensor] = {}
        self._steps: dict[Hashable, Step] = {}

    def __call__(self, kind: Hashable, work: Work, given: Mapping[str, Tensor | None]) -> Tensor:
        """Return `work(**given)`, a tensor of the caller's own.

        Args:
            kind: what tells one capture from another: everything that changes what `work` queues
                but for the inputs' values.
            work: called with the inputs by name; runs twice for each new kind.
            given: tensors, of the same shape and dtype in every call; None stays None.
        """
        placed = {
            name: None if value is None else self._place(name, value)
            for name, value in given.items()
        }
        if kind not in self._steps:
            self._steps[kind] = self._capture(lambda: work(**placed))
        step = self._steps[kind]
        step.replay()
        return step.made.clone()

    def close(self) -> None:
        """Let go of all captures; those that are queued must have run."""
        self._steps.clear()
        self._places.clear()

    def _place(self, name: str, value: Tensor) -> Tensor:
        if name not in self._places:
            self._places[name] = torch.empty_like(value)
        return self._places[name].copy_(value)


class _Capture:
    """Captures what a work queues on torch's current stream; captures share one pool of memory."""

    def __init__(self) -> None:
        self._pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Tensor]) -> Step:
        work()  # kernels are loaded, and what is kept between calls is made, outside the capture
        stream = torch.cuda.current_stream()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # the other threads of a run go on with their own work on the card
        with torch.cuda.graph(
            graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
        ):
            made = work()
        return Step(graph.replay, made)
