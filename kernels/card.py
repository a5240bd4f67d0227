"""A card at work for a run: the stream that its stages share, and marks in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from lsd.kernels.array import Pool
from lsd.kernels.driver import device
from lsd.kernels.lanes import Lane, on
from lsd.kernels.streams import Event, Stream


class Card:
    """One card, its compute stream, and the memory of the pictures that are made there.

    Args:
        name: "cuda:N".

    Attributes:
        lane: where the ops of the run's stages go; the thread that computes uses it.

    Raises:
        KernelError: no driver, no such card, or one that is too old.
    """

    def __init__(self, name: str) -> None:
        self.device = device(int(name.removeprefix("cuda:")))
        self.compute = Stream(self.device, "compute")
        self._pool = Pool("pictures")
        self.lane = Lane(self.device, self.compute, self._pool)
        self._marks: list[Event] = []
        self._free: list[Event] = []

    def working(self) -> AbstractContextManager[None]:
        """Send the ops inside the block to the compute stream."""
        return on(self.lane)

    def mark(self) -> Mark:
        """Mark what is queued now, for those who read it on another stream."""
        try:
            event = self._free.pop()
        except IndexError:  # no look before: another thread may let a mark go at any moment
            event = Event("ready")
            self._marks.append(event)
        event.record(self.compute)
        return Mark(event, self._free)

    def close(self) -> None:
        """Wait for what is queued, and give the memory back; nobody uses a picture any more."""
        self.device.activate()
        self.compute.synchronize()
        for event in self._marks:
            event.close()
        self.compute.close()
        self._pool.close()


class Mark:
    """A place in the compute stream; its event is used again when nobody names the mark."""

    def __init__(self, event: Event, free: list[Event]) -> None:
        self._event, self._free = event, free

    def wait(self, stream: Any) -> None:
        """Let `stream` go on only after the mark; the host does not wait."""
        self._event.wait(stream)

    def synchronize(self) -> None:
        """Let this thread go on only after the mark."""
        self._event.synchronize()

    def __del__(self) -> None:
        self._free.append(self._event)
