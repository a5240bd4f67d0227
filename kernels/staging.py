"""Pictures to the card and back on streams of their own, beside the compute.

Every hand-over is an event:

    host --fill--> pinned --upload stream--> slot --'upload.sent'--> compute
    compute --'upload.read'--> host may fill the slot again
    compute --a mark--> download stream --> pinned --'download.here'--> host

The host waits for 'upload.read' of the frame `depth` before, which bounds how far it runs ahead of
the card, and for 'download.here', in the thread that wants the picture. The thread that computes
waits for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lsd.kernels import device_ops
from lsd.kernels.array import DeviceArray, Pool
from lsd.kernels.driver import Device, copy_across, pinned
from lsd.kernels.lanes import Lane, on
from lsd.kernels.streams import Event, Stream
from lsd.pipeline.errors import KernelError

ALIGNMENT = 256  # bytes between the fields of a slot: what the driver's own allocations have

Array = NDArray[Any]
Form = tuple[tuple[int, ...], Any]  # shape, dtype
Fields = Mapping[str, Form]


class Awaitable(Protocol):
    """A mark in a stream that another stream can wait for."""

    def wait(self, stream: Any) -> None: ...


class Slot:
    """One frame's input: the same fields on the host and on the card, one copy for all.

    Attributes:
        host: name -> pinned array.
        sent: the card's side is filled.
        read: the card's side has been read, for the last time.
    """

    def __init__(self, fields: Fields, pool: Pool) -> None:
        self._fields = fields
        sizes = [prod(shape) * np.dtype(kind).itemsize for shape, kind in fields.values()]
        padded = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
        self._offsets = [sum(padded[:i]) for i in range(len(padded))]
        self._pinned = pinned((sum(padded),), np.uint8)
        self.card = pool.fresh((sum(padded),), np.uint8)
        self.host: dict[str, Array] = {}
        for (name, (shape, kind)), offset, size in zip(
            fields.items(), self._offsets, sizes, strict=True
        ):
            raw = self._pinned[offset : offset + size]
            self.host[name] = raw.view(kind).reshape(shape)
        self.sent, self.read = Event("upload.sent"), Event("upload.read")

    def send(self, stream: Stream) -> None:
        """Queue the copy of all fields to the card."""
        self.card.upload(self._pinned, stream)
        self.sent.record(stream)

    def take(self, lane: Lane) -> dict[str, DeviceArray]:
        """Queue a copy into the lane's own memory; return all the fields."""
        assert lane.memory is not None, "the pictures of a run lie in our own memory"
        whole: DeviceArray = lane.memory.take(self.card.shape, np.uint8)
        copy_across(whole.pointer, self.card.pointer, self.card.nbytes, lane.handle)
        return {
            name: DeviceArray(whole.pointer + offset, shape, kind, whole)
            for (name, (shape, kind)), offset in zip(
                self._fields.items(), self._offsets, strict=True
            )
        }

    def close(self) -> None:
        self.sent.close()
        self.read.close()


class Upload:
    """Sends the fields of one frame after the other; one thread uses it.

    What a frame has sent is copied once more on the card, which takes microseconds: it then lives
    as long as somebody names it, and the slot is free when the compute has begun.

    Args:
        fields: name -> (shape, dtype).
        lane: where they are read.
        depth: slots; 2 lets frame t + 1 travel while frame t is computed.
    """

    def __init__(self, fields: Fields, lane: Lane, depth: int = 2) -> None:
        self.stream = Stream(lane.device, "upload")
        self._lane, self._pool = lane, Pool("pictures on their way")
        self._frames = 0
        try:
            self.slots = [Slot(fields, self._pool) for _ in range(depth)]
        except BaseException:
            self._pool.close()
            raise

    def send(self, values: Mapping[str, Array]) -> dict[str, DeviceArray]:
        """Queue one frame's copy; waits only until the slot's last frame has been read.

        Args:
            values: name -> array of its field's shape and dtype, copied before this returns; a
                field that is missing is not sent.

        Returns:
            What was sent, valid in the order of the lane.

        Raises:
            KernelError: an array of another form; the driver refuses.
        """
        slot = self.slots[self._frames % len(self.slots)]
        self._frames += 1
        slot.read.synchronize()
        for name, value in values.items():
            _fill(name, slot.host[name], value)
        slot.send(self.stream)
        slot.sent.wait(self._lane)
        taken = slot.take(self._lane)
        slot.read.record(self._lane)
        return {name: taken[name] for name in values}

    def close(self) -> None:
        """Wait for what is on its way, and let go; any thread may."""
        self._lane.device.activate()
        self.stream.synchronize()
        for slot in self.slots:
            slot.close()
        self.stream.close()
        self._pool.close()


class Landing(NamedTuple):
    """Host memory that a result comes to, and the mark that it has."""

    host: Array
    here: Event


class Ticket:
    """A small result that is on its way to the host; whoever wants it may look, or drop it."""

    def __init__(self, landing: Landing, free: list[Landing]) -> None:
        self._landing, self._free = landing, free

    def is_here(self) -> bool:
        """Return whether `value` would not wait."""
        return self._landing.here.is_done()

    def value(self) -> Array:
        """Wait for the result and return a copy of it, the caller's own.

        Raises:
            KernelError: a kernel before it has failed.
        """
        self._landing.here.synchronize()
        return self._landing.host.copy()

    def __del__(self) -> None:
        # whoever fetches next queues behind what is still on its way here
        self._free.append(self._landing)


class Reader:
    """Brings small results of a lane to the host, without anybody waiting for them.

    Args:
        lane: whose results.
        form: theirs.
        most: how many may be on their way.
    """

    def __init__(self, lane: Lane, form: Form, most: int = 8) -> None:
        self._lane, self._most = lane, most
        self._landings = [Landing(pinned(*form), Event("reader.here")) for _ in range(most)]
        self._free = list(self._landings)

    def fetch(self, array: DeviceArray) -> Ticket:
        """Queue the copy of a result that the lane makes.

        Raises:
            KernelError: as many as may be on their way are.
        """
        if not self._free:
            raise KernelError(f"reader: {self._most} results wait for the host; take one first")
        landing = self._free.pop(0)
        array.download(landing.host, self._lane)
        landing.here.record(self._lane)
        return Ticket(landing, self._free)

    def close(self) -> None:
        """Let go; no ticket may be asked any more. Any thread may."""
        self._lane.device.activate()
        for landing in self._landings:
            landing.here.close()


class Download:
    """Turns pictures into pixels and brings them to the host; one thread uses it.

    Args:
        device: the card.
        shape: of the pixels, [1, H, W, 3].
    """

    def __init__(self, device: Device, shape: tuple[int, ...]) -> None:
        self.stream = Stream(device, "download")
        self._pool = Pool("pictures on their way to the host")
        self._lane = Lane(device, self.stream, self._pool)
        self._landing = Landing(pinned(shape, np.uint8), Event("download.here"))
        self._pixels = self._pool.fresh(shape, np.uint8)

    def fetch(self, picture: Any, ready: Awaitable) -> Array:
        """Wait for a picture and return its pixels, uint8 [1, H, W, 3].

        Args:
            picture: float [1, 3, H, W] in [-1, 1] on the card.
            ready: the mark after which it may be read.

        Raises:
            KernelError: a kernel of the picture, or of one before, has failed.
        """
        with on(self._lane):
            ready.wait(self._lane)
            device_ops.tensor_to_frame(picture, self._pixels)
            self._pixels.download(self._landing.host, self._lane)
            self._landing.here.record(self._lane)
            self._landing.here.synchronize()
        return self._landing.host.copy()

    def close(self) -> None:
        """Let go; any thread may."""
        self._lane.device.activate()
        self._landing.here.close()
        self.stream.close()
        self._pool.close()


def _fill(name: str, into: Array, value: Array) -> None:
    if value.shape != into.shape or value.dtype != into.dtype:
        raise KernelError(
            f"upload: got {value.dtype} {list(value.shape)} for {name!r}, expected {into.dtype} "
            f"{list(into.shape)}"
        )
    np.copyto(into, value)
