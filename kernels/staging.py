"""Pictures to the card and back on streams of their own, beside the compute.

An `Upload` and a `Download` each own a stream and a few slots that they use in turn. Every
hand-over is an event:

    host --fill--> pinned --upload stream--> slot --'sent'--> compute --'read'--> host may refill
    compute --'made'--> download stream --> pinned --'here'--> host
    download stream --'fetched'--> compute may write the place again

The only waits of the host are for 'read', of the frame `depth` before (that bounds how far the host
runs ahead of the card), and for 'here', by whoever wants the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsd.kernels.array import DeviceArray, Pool
from lsd.kernels.driver import Device, pinned
from lsd.kernels.streams import Event, Stream
from lsd.pipeline.errors import KernelError

ALIGNMENT = 256  # bytes between the fields of a slot: what the driver's own allocations have

Array = NDArray[Any]
Fields = Mapping[str, tuple[tuple[int, ...], Any]]


class Slot:
    """One frame's input: the same fields on the host and on the card, one copy for all.

    Attributes:
        host: name -> pinned array.
        card: name -> array on the card.
        sent: the card's side is filled.
        read: the card's side has been read, for the last time.
    """

    def __init__(self, fields: Fields, pool: Pool) -> None:
        sizes = {
            name: prod(shape) * np.dtype(kind).itemsize for name, (shape, kind) in fields.items()
        }
        total = sum(map(_padded, sizes.values()))
        self._host = pinned((total,), np.uint8)
        self._card = pool.fresh((total,), np.uint8)
        self.host: dict[str, Array] = {}
        self.card: dict[str, DeviceArray] = {}
        offset = 0
        for name, (shape, kind) in fields.items():
            raw = self._host[offset : offset + sizes[name]]
            self.host[name] = raw.view(kind).reshape(shape)
            pointer = self._card.pointer + offset
            self.card[name] = DeviceArray(pointer, shape, kind, self._card)
            offset += _padded(sizes[name])
        self.sent, self.read = Event("upload.sent"), Event("upload.read")

    def send(self, stream: Stream) -> None:
        """Queue the copy of all fields."""
        self._card.upload(self._host, stream)
        self.sent.record(stream)

    def close(self) -> None:
        self.sent.close()
        self.read.close()


class Upload:
    """Sends the fields of one frame after the other.

    Args:
        device: the card.
        fields: name -> (shape, dtype).
        depth: slots; 2 lets frame t + 1 travel while frame t is computed.
        pool: where the slots' memory on the card comes from.
    """

    def __init__(self, device: Device, fields: Fields, depth: int, pool: Pool) -> None:
        self.stream = Stream(device, "upload")
        self.slots = [Slot(fields, pool) for _ in range(depth)]

    def send(self, index: int, values: Mapping[str, Array]) -> Slot:
        """Queue one frame's copy; wait until the slot's last frame has been read.

        Args:
            index: of the slot.
            values: of every field, its shape and dtype.

        Returns:
            The slot; wait for its `sent` before reading, record its `read` after.
        """
        slot = self.slots[index]
        slot.read.synchronize()
        for name, into in slot.host.items():
            _fill(name, into, values[name])
        slot.send(self.stream)
        return slot

    def close(self) -> None:
        """Wait for what is on its way, and let go."""
        self.stream.synchronize()
        for slot in self.slots:
            slot.close()
        self.stream.close()


class Landing(NamedTuple):
    """Host memory that a result comes to, and the mark that it has."""

    host: Array
    here: Event


class Ticket:
    """A picture that is on its way to the host; any thread may take it, or drop it."""

    def __init__(self, device: Device, landing: Landing, free: list[Landing]) -> None:
        self._device, self._landing, self._free = device, landing, free

    def is_here(self) -> bool:
        """Return whether `picture` would not wait."""
        self._device.activate()
        return self._landing.here.is_done()

    def picture(self) -> Array:
        """Wait for the picture and return a copy of it, the caller's own.

        Raises:
            KernelError: a kernel of the frame, or of one before, has failed.
        """
        self._device.activate()
        self._landing.here.synchronize()
        return self._landing.host.copy()

    def __del__(self) -> None:
        # whoever fetches next queues behind what is still on its way here
        self._free.append(self._landing)


class Made(NamedTuple):
    """A result's place on the card.

    Attributes:
        array: what the compute writes.
        made: it has been written.
        fetched: it has been copied out, and may be written again.
    """

    array: DeviceArray
    made: Event
    fetched: Event


class Download:
    """Brings one result after the other to the host.

    Args:
        device: the card.
        shape: of a result.
        dtype: of a result.
        depth: places on the card; 2 lets frame t - 1 travel while frame t is computed.
        most: results that may wait for the host at a time.
        pool: where the memory on the card comes from.
    """

    def __init__(
        self, device: Device, shape: tuple[int, ...], dtype: Any, depth: int, most: int, pool: Pool
    ) -> None:
        self.stream = Stream(device, "download")
        self._device, self._most = device, most
        self.places = [
            Made(pool.fresh(shape, dtype), Event("download.made"), Event("download.fetched"))
            for _ in range(depth)
        ]
        self._free = [Landing(pinned(shape, dtype), Event("download.here")) for _ in range(most)]

    def fetch(self, index: int) -> Ticket:
        """Queue the copy of a result whose `made` has been recorded.

        Raises:
            KernelError: as many results as may wait are waiting.
        """
        if not self._free:
            raise KernelError(f"download: {self._most} pictures wait for the host; take one first")
        landing, place = self._free.pop(0), self.places[index]
        place.made.wait(self.stream)
        place.array.download(landing.host, self.stream)
        place.fetched.record(self.stream)
        landing.here.record(self.stream)
        return Ticket(self._device, landing, self._free)

    def close(self) -> None:
        """Wait for what is on its way, and let go."""
        self.stream.synchronize()
        for place in self.places:
            place.made.close()
            place.fetched.close()
        self.stream.close()


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _fill(name: str, into: Array, value: Array) -> None:
    if value.shape != into.shape or value.dtype != into.dtype:
        raise KernelError(
            f"upload: got {value.dtype} {list(value.shape)} for {name!r}, expected {into.dtype} "
            f"{list(into.shape)}"
        )
    np.copyto(into, value)
