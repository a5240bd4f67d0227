"""A link: the bounded queue between two stages, with one policy."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from lsd.pipeline.errors import LinkClosed

T = TypeVar("T")
Policy = Literal["block", "drop_oldest"]

# An Event cannot be waited for together with a Condition, so that a blocked
# `put` looks at its `stopping` this often. Nothing waits this long otherwise.
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class LinkStats:
    """Counts of one link; `put == got + dropped + depth` at every moment."""

    depth: int
    put: int
    got: int
    dropped: int


class Link(Generic[T]):
    """A bounded queue with one producer, one consumer and one policy.

    `block` (no item may be lost) makes `put` wait for room; `drop_oldest`
    (the newest wins) never waits and throws the oldest waiting item out.
    A hand-over between two threads takes some 30 us.

    Args:
        capacity: how many items may wait, at least 1.
        policy: "block" or "drop_oldest".
    """

    def __init__(self, capacity: int, policy: Policy) -> None:
        assert capacity >= 1, f"a link holds at least one item, not {capacity}"
        self.capacity = capacity
        self.policy: Policy = policy
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._has_item = threading.Condition(self._lock)
        self._has_room = threading.Condition(self._lock)
        self._closed = False
        self._put = self._got = self._dropped = 0

    def put(self, item: T, stopping: threading.Event | None = None) -> T | None:
        """Add `item`; return the item that was lost for it, or None.

        Args:
            item: what to hand over.
            stopping: ends the wait of a full `block` link: when it is set,
                `item` itself is given up and returned.

        Raises:
            LinkClosed: the link is closed, or was closed during the wait;
                `item` was not taken and is not counted.
        """
        lost: T | None = None
        with self._lock:
            if self._full() and self.policy == "block":
                self._wait_for_room(stopping)
            if self._closed:
                raise LinkClosed("nothing can be put: the link is closed")
            self._put += 1
            if self._full():
                self._dropped += 1
                if self.policy == "block":
                    return item
                lost = self._items.popleft()
            self._items.append(item)
            self._has_item.notify()
        return lost

    def get(self, timeout_s: float | None = None) -> T:
        """Take the oldest item; wait for one up to `timeout_s` (None: for ever).

        Raises:
            LinkClosed: the link is closed and everything in it was taken.
            TimeoutError: nothing came in time.
        """
        with self._lock:
            if not self._items and not self._closed:
                self._has_item.wait_for(lambda: self._items or self._closed, timeout_s)
            if not self._items:
                if self._closed:
                    raise LinkClosed("nothing is left: the link is closed")
                raise TimeoutError(f"no item within {timeout_s} s")
            self._got += 1
            item = self._items.popleft()
            self._has_room.notify()
        return item

    def close(self) -> None:
        """End the link: no more `put`; what waits in it can still be taken."""
        with self._lock:
            self._closed = True
            self._has_item.notify_all()
            self._has_room.notify_all()

    def stats(self) -> LinkStats:
        """Return the counts of this moment."""
        with self._lock:
            return LinkStats(len(self._items), self._put, self._got, self._dropped)

    def _full(self) -> bool:
        return len(self._items) >= self.capacity

    def _wait_for_room(self, stopping: threading.Event | None) -> None:
        """Wait until there is room, the link is closed or `stopping` is set."""
        while self._full() and not self._closed:
            if stopping is None:
                self._has_room.wait()
            elif stopping.is_set():
                return
            else:
                self._has_room.wait(_LOOK_S)
