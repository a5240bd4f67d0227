"""What a worker's processes have in common, one after the other: a page of shared memory."""

from __future__ import annotations

import mmap
import struct

from lsd.pipeline.errors import LsdError
from lsd.pipeline.links import memory

LINEAGE = "lineage"  # what its memory is called where it is handed down
BYTES = mmap.PAGESIZE
_STATE = struct.Struct("<QQQ")  # processes so far, frames captured, frames emitted
_BEGAN = struct.Struct("<Q")  # behind it: when the source began, monotonic, ns


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
        return max(0, self._read()[0] - 1)

    @property
    def captured(self) -> int:
        """How many frames the source has made, in all processes."""
        return self._read()[1]

    @property
    def emitted(self) -> int:
        """How many fresh frames reached the sinks, in all processes."""
        return self._read()[2]

    def begin(self, now_ns: int) -> int:
        """Note that the source begins, if no process before has; return when the first one did."""
        (began_ns,) = _BEGAN.unpack_from(self._page, _STATE.size)
        if not began_ns:
            began_ns = now_ns
            _BEGAN.pack_into(self._page, _STATE.size, began_ns)
        return int(began_ns)

    def born(self) -> None:
        """Note that a process has begun."""
        born, captured, emitted = self._read()
        self._write(born + 1, captured, emitted)

    def capture(self) -> None:
        """Note that the source has made a frame."""
        born, captured, emitted = self._read()
        self._write(born, captured + 1, emitted)

    def emit(self) -> None:
        """Note that a fresh frame reached the sinks."""
        born, captured, emitted = self._read()
        self._write(born, captured, emitted + 1)

    def _read(self) -> tuple[int, int, int]:
        born, captured, emitted = _STATE.unpack_from(self._page, 0)
        return born, captured, emitted

    def _write(self, *values: int) -> None:
        _STATE.pack_into(self._page, 0, *values)
