"""The end of a ring that frames are taken from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from msgspec.structs import replace

from lsd.pipeline.links.header import MAX_HEADER_BYTES, Header
from lsd.pipeline.links.kept import Kept
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.parcel import Codec, Parcel, owned
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_end import RingEnd
from lsd.pipeline.links.table import Role, Slot

T = TypeVar("T")


class RingReader(RingEnd, Generic[T]):
    """Takes frames from a ring: `get` hands them over, `take` shows them where they are.

    Args:
        ring: its descriptors.
        stream: the name that every header must bear.
        codec: header and arrays -> what is got.
    """

    def __init__(self, ring: Ring, stream: str, codec: Codec[T]) -> None:
        super().__init__(ring, Role.READER)
        self._stream, self._codec = stream, codec
        # Somebody here may still look at what a predecessor kept that left in order.
        shape, before = self._table.shape, self._table.kept()
        self._kept = Kept(shape.slot_bytes, shape.keeps - before)

    def get(self, timeout_s: float | None = None) -> T:
        """Take the oldest frame, for good; see `Receiver.get`.

        As long as the ring may keep more, the arrays are the slot itself, which is used again
        once nobody has an array on it any more; otherwise they are copies.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            slot, parcel = self._next(end_s, timeout_s)
            item, reason = None, None
            keeps = self._kept.has_room
            if keeps:  # our reference lasts until the table knows of it, too
                planes = self._kept.keep(self._mapped.slots, slot, parcel.header.planes)
                parcel = Parcel(parcel.header, planes)
            else:
                parcel = owned(parcel)
            try:
                item = self._codec.unpack(parcel)
            except BadMessage as error:
                reason, keeps = error.reason, False
            except BaseException:
                self._give_back(slot, "malformed")
                raise
            if self._give_back(slot, reason, keeps=keeps) and item is not None:
                return item

    @contextmanager
    def take(self, timeout_s: float | None = None) -> Iterator[Parcel]:
        """Lease the oldest frame for as long as the block lasts.

        Yields:
            header and read-only arrays on the slot itself; after the block they show
            whatever is written there next.

        Raises:
            LinkClosed, PeerLost, TimeoutError: as `get`.
            LsdError: more frames are held than the ring was made for.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        slot, parcel = self._next(end_s, timeout_s)
        try:
            yield parcel
        finally:
            if not self._is_closed:
                self._give_back(slot)

    def _next(self, end_s: float | None, timeout_s: float | None) -> tuple[Slot, Parcel]:
        """Wait for a frame whose header is in order."""
        while True:
            slot = self._lease(end_s, timeout_s)
            try:
                return slot, self._parcel(slot)
            except BadMessage as error:
                self._give_back(slot, error.reason)

    def _lease(self, end_s: float | None, timeout_s: float | None) -> Slot:
        while True:
            slot = self._try_lease()
            # The other end is looked at only when there is nothing to do without it.
            if slot is None and self._is_dead(end := self._table.end(self._other)):
                slot = self._try_lease()  # it may have put something between the two looks
                if slot is None:
                    self._tell(end)
            if slot is not None:
                return slot
            if end_s is not None and time.monotonic() >= end_s:
                raise TimeoutError(f"no item within {timeout_s} s")
            self._wait(end_s)

    def _try_lease(self) -> Slot | None:
        self._require_open()
        with self._table.lock:
            slot = self._table.take()
            if slot is None:
                self._table.require_not_left(self._other)
            return slot

    def _parcel(self, slot: Slot) -> Parcel:
        shape = self._table.shape
        start = slot.number * shape.slot_bytes
        if slot.header_bytes > MAX_HEADER_BYTES:
            raise BadMessage("oversized", f"a header of {slot.header_bytes} bytes")
        header = Header.decode(
            self._mapped.slots[start : start + slot.header_bytes],
            stream=self._stream,
            epoch=shape.epoch,
            capacity=shape.slot_bytes - MAX_HEADER_BYTES,
        )
        if (header.slot, header.gen) != (slot.number, slot.gen):
            raise BadMessage("malformed", "the header is of another frame than its slot")
        header = replace(header, published_ns=slot.published_ns)
        return Parcel(header, self._views(slot.number, header.planes))

    def _give_back(self, slot: Slot, reject: str | None = None, *, keeps: bool = False) -> bool:
        with self._table.lock:
            self._release()
            intact = self._table.keep(slot) if keeps else self._table.give_back(slot, reject)
            is_awaited = self._table.is_awaited()
        if is_awaited:
            self._wake()
        return intact

    def _release(self) -> None:
        """Free what nobody looks at any more; under the lock."""
        for slot in self._kept.gone():
            self._table.release(slot)
