"""Buffers whose first contents must not matter, and which of their bytes are written."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

# first address -> the mark of each byte: 0 where no kernel has written
_marks: dict[int, Bytes] = {}


def unwritten(shape: int | tuple[int, ...], dtype: Any) -> Array:
    """Return a buffer of poison: NaN, or 0xA5 bytes.

    The executor remembers, from launch to launch, which bytes kernels have written, and takes
    a kernel's read of any other byte for a fault. Views share that memory.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    whole = np.full(size, 0xA5, np.uint8)
    start = whole.ctypes.data
    if size:
        _marks[start] = np.zeros(size, np.uint8)
        weakref.finalize(whole, _marks.pop, start, None)
    array: Array = whole.view(kind).reshape(shape)
    if np.issubdtype(kind, np.floating):
        array.fill(np.nan)
    return array


def marks(start: int, size: int) -> Bytes | None:
    """Return the marks of the bytes at an address, None where all count as written."""
    for first, found in _marks.copy().items():  # a finalizer may run meanwhile
        if first <= start and start + size <= first + found.size:
            return found[start - first : start - first + size]
    return None
