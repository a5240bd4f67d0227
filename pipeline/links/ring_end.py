"""What both ends of a ring do: be there, wait, notice that the other end has died."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NoReturn

from lsd.pipeline.errors import LinkClosed, PeerLost
from lsd.pipeline.links.ends import EdgeStats
from lsd.pipeline.links.header import MAX_HEADER_BYTES, Plane
from lsd.pipeline.links.parcel import Array, views
from lsd.pipeline.links.ring import Mapped, Ring
from lsd.pipeline.links.table import MAX_SLOTS, End, Presence, Role

# Nothing is found out by looking this often, but a `stopping` that was set meanwhile, and a
# process whose end no descriptor tells of.
_LOOK_S = 0.05


class RingEnd:
    """One process's end of a ring.

    Args:
        ring: its descriptors; the end keeps copies.
        role: which end.

    Raises:
        LsdError: the memory holds no ring, or that end is taken.
    """

    def __init__(self, ring: Ring, role: Role) -> None:
        self._role, self._other = role, Role(1 - role)
        self._mapped, self._table = Mapped.of(ring.memory_fd)
        # The same few for all frames of a stream.
        self._views = lru_cache(4 * MAX_SLOTS)(self._made_views)
        try:
            with self._table.lock:
                self._table.attach(role)
        except BaseException:
            self._unmap()
            raise
        woken, wakes = ring.freed_fd, ring.filled_fd
        if role is Role.READER:
            woken, wakes = wakes, woken
        self._woken_fd, self._wakes_fd = os.dup(woken), os.dup(wakes)
        self._poll = select.poll()
        self._poll.register(self._woken_fd, select.POLLIN)
        self._pidfd: int | None = None
        self._seen = 0  # the other end's incarnation that `_pidfd` is of
        self._told = 0  # the last whose death was told
        self._is_closed = False
        self._wake()  # who waits for us may go on

    def close(self) -> None:
        """Leave the link in order; what was put can still be taken."""
        if self._is_closed:
            return
        self._is_closed = True
        with self._table.lock:
            self._last = self._counted()
            self._table.leave(self._role)
        self._wake()
        self._watch(None)
        os.close(self._woken_fd)
        os.close(self._wakes_fd)
        self._unmap()

    def stats(self) -> EdgeStats:
        """Return the counts of this moment, or those of the end of the link."""
        if self._is_closed:
            return self._last
        with self._table.lock:
            return self._counted()

    def peer_age_s(self) -> float | None:
        """Return how long ago the other end last did something; None: nobody is there."""
        end = self._table.end(self._other)
        if end.presence is not Presence.THERE:
            return None
        return max(0, time.monotonic_ns() - end.beat_ns) / 1e9

    def _counted(self) -> EdgeStats:
        (put, got), depth = self._table.put_and_got(), self._table.depth()
        reasons = self._table.drops()
        dropped = sum(reasons.values())
        return EdgeStats(depth, put, got, dropped, reasons, put - got - dropped - depth)

    def _made_views(self, number: int, planes: tuple[Plane, ...]) -> Mapping[str, Array]:
        """Return a slot's arrays."""
        start = number * self._table.shape.slot_bytes + MAX_HEADER_BYTES
        slots = memoryview(self._mapped.slots)
        # Who takes frames where they lie has only lent them.
        return views(planes, slots if self._role is Role.WRITER else slots.toreadonly(), start)

    def _require_open(self) -> None:
        if self._is_closed:
            raise LinkClosed("the link is closed")

    def _is_dead(self, end: End) -> bool:
        """Return whether the process at the other end has died, and that was not told yet."""
        if end.presence is not Presence.THERE or end.incarnation == self._told:
            return False
        if end.incarnation != self._seen:
            self._watch(end.process.open())
            self._seen = end.incarnation
        return self._pidfd is None or _is_readable(self._pidfd)

    def _tell(self, end: End) -> NoReturn:
        """Free what a dead process held, and raise, once for each."""
        self._told = end.incarnation
        self._watch(None)
        with self._table.lock:
            if self._table.end(self._other).incarnation == end.incarnation:
                self._table.revoke(self._other)
        raise PeerLost(f"process {end.process.pid}, the {self._other.name.lower()}, died")

    def _wait(self, until_s: float | None) -> None:
        """Sleep until the other end does something or dies, or until `until_s`."""
        self._table.beat(self._role)
        try:
            os.eventfd_read(self._woken_fd)
        except BlockingIOError:
            left_s = _LOOK_S if until_s is None else min(_LOOK_S, until_s - time.monotonic())
            # What wakes us is left in the descriptor for the next time: to read it costs a
            # call that a frame would wait for.
            self._poll.poll(max(0.0, left_s) * 1000)

    def _wake(self) -> None:
        try:
            os.eventfd_write(self._wakes_fd, 1)
        except BlockingIOError:  # it is at its limit: awake enough
            return

    def _watch(self, pidfd: int | None) -> None:
        if self._pidfd is not None:
            self._poll.unregister(self._pidfd)
            os.close(self._pidfd)
        self._pidfd = pidfd
        if pidfd is not None:
            self._poll.register(pidfd, select.POLLIN)

    def _unmap(self) -> None:
        self._table.close()
        # Not `close`: NumPy keeps no hold on the memory but a reference, and somebody may
        # still look at a frame. The mapping ends with the last of them.
        del self._mapped, self._views


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
