"""Run the kernels' cases on a card, through the driver, as a pipeline would."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.array import DeviceArray, Pool
from lsd.kernels.driver import Device, pinned
from lsd.kernels.graph import Graph
from lsd.kernels.lanes import Lane
from lsd.kernels.launch import launch_all
from lsd.kernels.plans.launch import Launch
from lsd.kernels.streams import Event, Stream
from lsd.lab.ptx.case import Array, Case


class Bench:
    """A stream of its own on a card, with memory.

    Args:
        device: the card, current on this thread.
    """

    def __init__(self, device: Device) -> None:
        self.device, self.stream = device, Stream(device, "bench")
        self.pool = Pool("the kernels' cases")
        self.lane = Lane(device, self.stream, self.pool)

    def run(self, case: Case) -> dict[str, Array]:
        """Return the case's buffers after its launches.

        Raises:
            KernelError: a kernel cannot be loaded or launched, or fails.
        """
        buffers, launches = case.build()
        moved = Moved(self, launches)
        launch_all(moved.launches, self.lane)
        moved.fetch()
        return buffers

    def microseconds(self, case: Case, repeats: int) -> float:
        """Return the time of a case's launches, the mean over `repeats` in one captured graph.

        In a graph, because the host takes some 3 us to queue a launch, and a kernel that runs
        for less would be given the host's time.
        """
        moved = Moved(self, case.build()[1])

        def work() -> None:
            for _ in range(repeats):
                launch_all(moved.launches, self.lane)

        graph = Graph(self.lane, work, f"{case.op}, {repeats} times")
        start, end = Event("start", timed=True), Event("end", timed=True)
        graph.launch()  # the first replay also brings the graph to the card
        start.record(self.stream)
        graph.launch()
        end.record(self.stream)
        end.synchronize()
        took_us = end.ms_since(start) * 1e3 / repeats
        for each in (start, end, graph):
            each.close()
        return took_us

    def close(self) -> None:
        """Give the card's memory back."""
        self.stream.synchronize()
        self.pool.close()
        self.stream.close()


class Moved:
    """Launches over NumPy arrays as launches over the same arrays on the card.

    Arrays that are views of one another stay so.
    """

    def __init__(self, bench: Bench, launches: list[Launch]) -> None:
        self._bench = bench
        self._copies: dict[int, tuple[Array, DeviceArray]] = {}
        self.launches = [each._replace(args=tuple(map(self._arg, each.args))) for each in launches]
        bench.stream.synchronize()

    def fetch(self) -> None:
        """Bring what is on the card back into the arrays."""
        stream = self._bench.stream
        for array, copy in self._copies.values():
            staging = pinned((copy.nbytes,), np.uint8)
            copy.download(staging, stream)
            stream.synchronize()
            array.reshape(-1).view(np.uint8)[:] = staging

    def _arg(self, arg: Any) -> Any:
        if not isinstance(arg, np.ndarray):
            return arg
        root = arg
        while isinstance(root.base, np.ndarray):
            root = root.base
        offset = arg.ctypes.data - root.ctypes.data
        copy = self._copy(root)
        return DeviceArray(copy.pointer + offset, arg.shape, arg.dtype, copy)

    def _copy(self, root: Array) -> DeviceArray:
        if id(root) not in self._copies:
            copy = self._bench.pool.take((max(1, root.nbytes),), np.uint8)
            staging = pinned((copy.nbytes,), np.uint8)
            staging[: root.nbytes] = root.reshape(-1).view(np.uint8)
            copy.upload(staging, self._bench.stream)
            self._bench.stream.synchronize()  # before the staging memory goes
            self._copies[id(root)] = root, copy
        return self._copies[id(root)][1]
