"""Slots of a ring that whoever got a frame still looks at: no copy, and no end of a block."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from lsd.pipeline.links.header import MAX_HEADER_BYTES, Plane
from lsd.pipeline.links.parcel import Array, views
from lsd.pipeline.links.table import Slot


class Kept:
    """Hands out arrays on slots, and knows which slots nobody has an array of any more.

    What is made of an array (a view, a tensor) keeps it, and every array keeps the *anchor* of
    its slot; so the slot is done with when the anchor goes. In which thread that is, and whether
    it holds a lock, nobody knows: it is noted there, and dealt with by the reader (`gone`).

    Args:
        slot_bytes: of each slot.
        most: how many may be kept at a time.
    """

    def __init__(self, slot_bytes: int, most: int) -> None:
        self._slot_bytes, self._most = slot_bytes, most
        self._anchor_type = ctypes.c_char * (slot_bytes - MAX_HEADER_BYTES)
        self._anchors: dict[Slot, weakref.ref[Any]] = {}
        self._gone: deque[Slot] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another may be kept, once those that are gone have been dealt with."""
        return len(self._anchors) - len(self._gone) < self._most

    def keep(self, slots: mmap.mmap, slot: Slot, planes: Sequence[Plane]) -> Mapping[str, Array]:
        """Return the planes of one of the `slots` as arrays that may be written to."""
        start = slot.number * self._slot_bytes + MAX_HEADER_BYTES
        anchor = self._anchor_type.from_buffer(slots, start)
        self._anchors[slot] = weakref.ref(anchor, lambda _: self._gone.append(slot))
        return views(planes, anchor, 0)

    def gone(self) -> list[Slot]:
        """Return the slots that are done with since the last call."""
        found = []
        while self._gone:
            slot = self._gone.popleft()
            del self._anchors[slot]
            found.append(slot)
        return found
