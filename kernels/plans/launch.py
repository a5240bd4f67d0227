"""A planned launch: which entry, how many threads, with what. No driver is needed to plan."""

from __future__ import annotations

from typing import Any, NamedTuple

Dim = tuple[int, int, int]


class Launch(NamedTuple):
    """One launch of one kernel.

    Attributes:
        entry: name of the PTX entry.
        grid: blocks along x, y, z.
        block: threads of a block along x, y, z; what the entry's `.reqntid` says.
        args: in the order of the entry's parameters: buffers (whatever the caller holds: NumPy
            arrays for the executor, device arrays for a card; None is a null pointer), and
            NumPy scalars (uint32, int32, float32, uint64) of the parameter's type.
        shared: bytes of dynamic shared memory.
    """

    entry: str
    grid: Dim
    block: Dim
    args: tuple[Any, ...]
    shared: int = 0


def blocks_for(threads: int, block: int) -> int:
    """Return how many blocks of `block` threads hold `threads` threads, 1 at least."""
    return max(1, -(-threads // block))
