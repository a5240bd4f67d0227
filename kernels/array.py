"""Arrays on a card, and the pool that their memory comes from."""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsd.kernels import driver
from lsd.kernels.streams import HasStream, handle_of
from lsd.pipeline.errors import KernelError


class DeviceArray:
    """A C-contiguous array on a card.

    Its memory goes back to the pool when nothing names the array any more; the pool's stream runs
    in order, so that what reuses it there comes after what read it. Whoever reads an array on
    another stream keeps it until an event of that stream has been waited for.

    Attributes:
        shape: in elements.
        dtype: NumPy's.
        nbytes: its size.
        pointer: its address on the card, a multiple of 256 unless it is a view.
    """

    __slots__ = ("_owner", "dtype", "nbytes", "pointer", "shape")

    def __init__(self, pointer: int, shape: tuple[int, ...], dtype: Any, owner: Any = None) -> None:
        """Args: owner: kept as long as this array, which is a view of it, or what frees it."""
        self.pointer, self.shape, self.dtype = pointer, tuple(shape), np.dtype(dtype)
        self.nbytes = prod(self.shape) * self.dtype.itemsize
        self._owner = owner

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # no stream: who hands an array over waits for an event, so the reader need not
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
            "stream": None,
        }

    def reshape(self, *shape: int) -> DeviceArray:
        """Return a view with as many elements."""
        if prod(shape) != prod(self.shape):
            raise KernelError(f"reshape: {list(self.shape)} has other elements than {list(shape)}")
        return DeviceArray(self.pointer, shape, self.dtype, self)

    def __getitem__(self, index: int) -> DeviceArray:
        """Return a view of one element along the first axis."""
        if not -self.shape[0] <= index < self.shape[0]:
            raise IndexError(f"index {index}, shape {list(self.shape)}")
        rest = self.shape[1:]
        step = prod(rest) * self.dtype.itemsize
        return DeviceArray(self.pointer + index % self.shape[0] * step, rest, self.dtype, self)

    def upload(self, host: NDArray[Any], stream: HasStream) -> None:
        """Queue a copy of `host` to here.

        Args:
            host: same shape and dtype, C-contiguous; pinned, or the driver waits.
            stream: where the copy is queued; `host` must stay as it is until it has run.

        Raises:
            KernelError: the arrays differ.
        """
        self._check(host, "upload")
        driver.copy_in(self.pointer, host, handle_of(stream))

    def download(self, host: NDArray[Any], stream: HasStream) -> None:
        """Queue a copy from here to `host`, which is as in `upload`."""
        self._check(host, "download")
        driver.copy_out(host, self.pointer, handle_of(stream))

    def __repr__(self) -> str:
        return f"DeviceArray({list(self.shape)}, {self.dtype}, 0x{self.pointer:x})"

    def _check(self, host: NDArray[Any], verb: str) -> None:
        if host.shape != self.shape or host.dtype != self.dtype or not host.flags.c_contiguous:
            layout = "" if host.flags.c_contiguous else " not C-contiguous"
            raise KernelError(
                f"{verb}: got {host.dtype} {list(host.shape)}{layout} on the host, expected "
                f"{self.dtype} {list(self.shape)}; copy it into an array of that form"
            )


class _Block:
    """Memory of the pool while an array uses it; at the end of that it goes back."""

    __slots__ = ("_free", "pointer")

    def __init__(self, pointer: int, free: list[int]) -> None:
        self.pointer, self._free = pointer, free

    def __del__(self) -> None:
        self._free.append(self.pointer)


class Pool:
    """Device memory for the results of ops, reused by size; nothing goes back to the driver.

    It belongs to one stream, whose order is what makes reuse safe. The first frames fill it; after
    that nothing is allocated, which a graph's capture needs.
    """

    def __init__(self, what: str) -> None:
        """Args: what: whose memory it is, for messages."""
        self._what = what
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._all: list[int] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return an array with anything in it.

        Raises:
            KernelError: the card is full.
        """
        count = prod(shape) * np.dtype(dtype).itemsize
        free = self._free[count]
        if not free:
            return self.fresh(shape, dtype)
        pointer = free.pop()
        return DeviceArray(pointer, shape, dtype, _Block(pointer, free))

    def fresh(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return an array in memory that was no other's: for what is kept.

        Taken out of the memory that frames reuse, it would be missing in the next frame.
        """
        count = prod(shape) * np.dtype(dtype).itemsize
        pointer = driver.allocate(count, self._what)
        self._all.append(pointer)
        return DeviceArray(pointer, shape, dtype, _Block(pointer, self._free[count]))

    def close(self) -> None:
        """Give all memory back; no array of the pool may be in use any more."""
        self._free.clear()
        while self._all:
            driver.release(self._all.pop())
