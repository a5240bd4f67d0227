"""What a worker's processes have in common, one after the other: a page of shared memory."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence

from lsd.pipeline.errors import LsdError
from lsd.pipeline.links import memory

LINEAGE = "lineage"  # what its memory is called where it is handed down
BYTES = mmap.PAGESIZE
_WORD = struct.Struct("<q")
_BORN, _CAPTURED, _EMITTED, _RECEIVED, _SENT, _BEGAN, _ON_TIME = range(
    0, 56, 8
)  # places in the page


class Lineage:
    """Counts that outlive a process; one process at a time writes them.

    Args:
        fd: a sealed memfd of BYTES; who made it keeps it.

    Raises:
        LsdError: the memory is of another size.
    """

    def __init__(self, fd: int) -> None:
        found = memory.require_sealed(fd)
        if found != BYTES:
            raise LsdError(f"the page of a worker has {found} bytes, expected {BYTES}")
        self._page = memory.mapped(fd, BYTES, writable=True)

    @property
    def incarnation(self) -> int:
        """How many processes there were before this one, once it is `born`."""
        return max(0, self._read(_BORN) - 1)

    @property
    def captured(self) -> int:
        """How many frames the source has made, in all processes."""
        return self._read(_CAPTURED)

    @property
    def emitted(self) -> int:
        """How many fresh frames reached the sinks, in all processes."""
        return self._read(_EMITTED)

    @property
    def on_time(self) -> int:
        """How many of those did so by their deadline."""
        return self._read(_ON_TIME)

    @property
    def received(self) -> int:
        """How many frames came from another host, in all processes."""
        return self._read(_RECEIVED)

    @property
    def sent(self) -> int:
        """How many frames were handed to a link to another host, in all processes."""
        return self._read(_SENT)

    def begin(self, at_ns: int) -> int:
        """Note where the run's time begins, if no process before has; return where it did.

        Args:
            at_ns: live, monotonic; file to file, the time stamp of the first picture.
        """
        if not self._read(_BEGAN):
            _WORD.pack_into(self._page, _BEGAN, at_ns + 1)  # 0: it has not begun
        return self._read(_BEGAN) - 1

    def born(self) -> None:
        """Note that a process has begun."""
        self._count(_BORN)

    def capture(self) -> None:
        """Note that the source has made a frame."""
        self._count(_CAPTURED)

    def emit(self, *, is_on_time: bool) -> None:
        """Note that a fresh frame reached the sinks, and whether by its deadline."""
        self._count(_EMITTED)
        if is_on_time:
            self._count(_ON_TIME)

    def receive(self) -> None:
        """Note that a frame came from another host."""
        self._count(_RECEIVED)

    def send(self) -> None:
        """Note that a frame was handed to a link to another host."""
        self._count(_SENT)

    def _read(self, place: int) -> int:
        (value,) = _WORD.unpack_from(self._page, place)
        return int(value)

    def _count(self, place: int) -> None:
        _WORD.pack_into(self._page, place, self._read(place) + 1)


class Lineages:
    """The pages of all workers of a run, as one: what their processes counted together."""

    def __init__(self, pages: Sequence[Lineage]) -> None:
        self._pages = pages

    @property
    def captured(self) -> int:
        """Frames that the source has made; only one of the workers has it."""
        return sum(page.captured for page in self._pages)

    @property
    def emitted(self) -> int:
        """Fresh frames that reached the sinks, likewise."""
        return sum(page.emitted for page in self._pages)

    @property
    def on_time(self) -> int:
        """Those of them that did so by their deadline."""
        return sum(page.on_time for page in self._pages)

    @property
    def received(self) -> int:
        """Frames that came from another host."""
        return sum(page.received for page in self._pages)

    @property
    def sent(self) -> int:
        """Frames that went to another host."""
        return sum(page.sent for page in self._pages)
