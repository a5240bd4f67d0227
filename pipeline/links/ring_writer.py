"""The end of a ring that frames are put into."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, TypeVar

import numpy as np
from msgspec.structs import replace

from lsd.pipeline.errors import WireError
from lsd.pipeline.links.clocks import CLOCK
from lsd.pipeline.links.header import MAX_HEADER_BYTES, Header
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.parcel import Array, Codec, Parcel
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_end import RingEnd
from lsd.pipeline.links.table import Role, Slot

T = TypeVar("T")


class RingWriter(RingEnd, Generic[T]):
    """Puts frames into a ring: `put` copies them there, `loan` has them made there.

    Args:
        ring: its descriptors.
        stream: its name, as in every header.
        codec: what is put -> header and arrays.
    """

    def __init__(self, ring: Ring, stream: str, codec: Codec[T]) -> None:
        super().__init__(ring, Role.WRITER)
        self._stream, self._codec = stream, codec

    @property
    def epoch(self) -> int:
        """Of the ring, for the headers."""
        return self._table.shape.epoch

    def put(self, item: T, stopping: threading.Event | None = None) -> T | None:
        """Copy `item` into the ring; see `Sender.put`.

        Of an item that is returned as lost the header is right; its pixels are a slot that
        the next frame is written to.
        """
        parcel = self._codec.pack(item)
        if not self._has_room(stopping):
            with self._table.lock:
                self._table.refuse()
            return item
        lost: list[Parcel] = []
        with self._loan(parcel.header, lost) as arrays:
            copied: set[int] = set()
            for name, array in arrays.items():
                if id(array) not in copied:
                    copied.add(id(array))
                    np.copyto(array, parcel.planes[name])
        try:
            return self._codec.unpack(lost[0]) if lost else None
        except BadMessage:  # it was a predecessor's
            return None

    def loan(
        self, header: Header, stopping: threading.Event | None = None
    ) -> AbstractContextManager[Mapping[str, Array]]:
        """Lend arrays in the next slot; they are sent when the block ends without an error.

        Args:
            header: of the frame; slot, generation, clock and time are filled in.
            stopping: ends the wait of a full `block` ring.

        Returns:
            for a `with` block: plane name -> array to write to, only inside the block; what
            it holds at first is an older frame.

        Raises:
            TimeoutError: `stopping` was set before there was room.
            LinkClosed, PeerLost: as `put`.
            WireError: the frame is larger than a slot.
        """
        if not self._has_room(stopping):
            raise TimeoutError("the run ended before there was room in the ring")
        return self._loan(header, None)

    def drained(self, timeout_s: float) -> bool:
        """Wait until all that was put was taken and is done with; False: it was not in time.

        Raises:
            PeerLost: the reader died.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            with self._table.lock:
                done, end = self._table.is_drained(), self._table.end(self._other)
                self._table.wait_for_room(not done)
            if done or time.monotonic() >= end_s:
                return done
            if self._is_dead(end):
                self._tell(end)
            self._wait(end_s)

    def _has_room(self, stopping: threading.Event | None) -> bool:
        """Wait for room in a `block` ring; False when `stopping` was set first."""
        self._require_open()
        while True:
            with self._table.lock:
                self._table.require_not_left(self._other)
                if self._table.shape.policy == "drop_oldest":
                    return True
                room, end = self._table.has_room(), self._table.end(self._other)
                self._table.wait_for_room(not room)
            if room:
                return True
            if stopping is not None and stopping.is_set():
                return False
            if self._is_dead(end):
                self._tell(end)
            self._wait(None)

    @contextmanager
    def _loan(self, header: Header, lost: list[Parcel] | None) -> Iterator[Mapping[str, Array]]:
        shape = self._table.shape
        capacity = shape.slot_bytes - MAX_HEADER_BYTES
        if header.nbytes > capacity:
            raise WireError(
                f"a frame of {header.nbytes} bytes is put into a ring for {capacity}; a larger "
                "size needs a new ring"
            )
        with self._table.lock:
            self._table.beat(self._role)
            slot = self._table.begin()
        sent = False
        try:
            start = slot.number * shape.slot_bytes
            # The header first, so that a frame that has been written is sent at once.
            data = replace(
                header,
                stream=self._stream,
                epoch=shape.epoch,
                slot=slot.number,
                gen=slot.gen,
                clock=CLOCK,
            ).encode()
            self._mapped.slots[start : start + len(data)] = data
            yield self._views(slot.number, header.planes)
            with self._table.lock:
                # First: meanwhile the reader wakes up, and the lock has it wait until all is there.
                self._wake()
                thrown_out = self._table.publish(slot, len(data), time.monotonic_ns())
            sent = True
        finally:
            if not sent:
                with self._table.lock:
                    self._table.give_up(slot)
        if thrown_out is not None and lost is not None:
            lost.extend(self._parcel_of(thrown_out))

    def _parcel_of(self, slot: Slot) -> list[Parcel]:
        shape = self._table.shape
        start = slot.number * shape.slot_bytes
        try:
            header = Header.decode(
                self._mapped.slots[start : start + slot.header_bytes],
                stream=self._stream,
                epoch=shape.epoch,
                capacity=shape.slot_bytes - MAX_HEADER_BYTES,
            )
        except BadMessage:
            return []
        return [Parcel(header, self._views(slot.number, header.planes))]
