"""A ring: frames in shared memory between two processes of one host, written in place.

    memfd, sealed:  | table, one page | slot 0 | slot 1 | ... |     slot: | header | pixels |

Who makes the ring (a supervisor, before it starts the workers) hands three descriptors down:
the memory and two eventfds. docs/links.md draws the states of a slot.
"""

from __future__ import annotations

import mmap
import os
import socket
from typing import NamedTuple

from lsd.pipeline.errors import LsdError
from lsd.pipeline.link import Policy
from lsd.pipeline.links import memory
from lsd.pipeline.links.header import MAX_HEADER_BYTES, aligned
from lsd.pipeline.links.table import MAX_SLOTS, PAGE, RingShape, Table

_SENT = b"ring"


class Ring(NamedTuple):
    """The descriptors of a ring; they, and the processes that hold them, are all there is.

    Attributes:
        memory_fd: a sealed memfd.
        filled_fd: an eventfd that wakes the reader.
        freed_fd: an eventfd that wakes the writer.
    """

    memory_fd: int
    filled_fd: int
    freed_fd: int

    @classmethod
    def create(
        cls,
        name: str,
        *,
        pixel_bytes: int,
        capacity: int,
        policy: Policy,
        leases: int = 1,
        keeps: int = 0,
        epoch: int = 0,
    ) -> Ring:
        """Make an empty ring.

        Args:
            name: shows in /proc/PID/fd and in messages.
            pixel_bytes: of the largest frame (`parcel.frame_bytes`).
            capacity, policy: as in `Link`.
            leases: how many frames the reader may hold at a time.
            keeps: how many more `get` may hand over where they lie, instead of copies.
            epoch: counts the rings of an edge; a new size needs a new ring and epoch.

        Raises:
            ConfigError: this is not Linux.
            LsdError: there is not enough memory.
        """
        memory.require_linux()
        assert capacity >= 1, f"a link holds at least one item, not {capacity}"
        assert leases >= 1, f"a reader holds at least one frame, not {leases}"
        slot_bytes = aligned(MAX_HEADER_BYTES + pixel_bytes, PAGE)
        shape = RingShape(epoch, capacity, leases, keeps, policy, slot_bytes)
        assert shape.slots <= MAX_SLOTS, f"a ring has at most {MAX_SLOTS} slots: {shape}"
        memory_fd = memory.create(name, shape.nbytes)
        page = memory.mapped(memory_fd, PAGE, writable=True)
        Table.create(page, shape).close()
        page.close()
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        return cls(memory_fd, os.eventfd(0, flags), os.eventfd(0, flags))

    @classmethod
    def parse(cls, text: str) -> Ring:
        """Read what `str` wrote for a child that inherited the descriptors (`pass_fds`).

        >>> Ring.parse("5,6,7")
        Ring(memory_fd=5, filled_fd=6, freed_fd=7)
        """
        try:
            memory_fd, filled_fd, freed_fd = (int(number) for number in text.split(","))
        except ValueError as error:
            raise LsdError(f"{text!r} is no ring; expected three descriptors: 5,6,7") from error
        return cls(memory_fd, filled_fd, freed_fd)

    def __str__(self) -> str:
        return ",".join(map(str, self))

    def send(self, channel: socket.socket) -> None:
        """Hand it to the process at the other end of a Unix socket (SCM_RIGHTS)."""
        socket.send_fds(channel, [_SENT], list(self))

    @classmethod
    def receive(cls, channel: socket.socket) -> Ring:
        """Take what `send` sent.

        Raises:
            LsdError: something else came.
        """
        data, fds, _, _ = socket.recv_fds(channel, len(_SENT), 3)
        if data != _SENT or len(fds) != 3:
            for fd in fds:
                os.close(fd)
            raise LsdError(f"expected a ring's three descriptors, got {data!r} and {len(fds)}")
        return cls(*fds)

    def close(self) -> None:
        """Close the descriptors here; ends that are open keep what they need."""
        for fd in self:
            os.close(fd)


class Mapped(NamedTuple):
    """A ring's memory as one end sees it.

    Attributes:
        page: the table.
        slots: all slots.
    """

    page: mmap.mmap
    slots: mmap.mmap

    @classmethod
    def of(cls, memory_fd: int) -> tuple[Mapped, Table]:
        """Map a ring that was handed down.

        Raises:
            LsdError: the memory is not sealed, or holds no ring.
        """
        nbytes = memory.require_sealed(memory_fd)
        if nbytes <= PAGE:
            raise LsdError(f"the memfd {memory_fd} of {nbytes} bytes holds no ring")
        page = memory.mapped(memory_fd, PAGE, writable=True)
        table = Table(page)
        if nbytes != table.shape.nbytes:
            raise LsdError(f"the memfd has {nbytes} bytes, its ring takes {table.shape.nbytes}")
        slots = memory.mapped(memory_fd, nbytes - PAGE, offset=PAGE, writable=True)
        return cls(page, slots), table
