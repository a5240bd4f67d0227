"""What a planner asks of a buffer, by the array interfaces alone: no driver, no torch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from lsd.pipeline.errors import KernelError

LARGEST = 2**30  # elements: the kernels' indices are signed words, and count past the end


class Layout(NamedTuple):
    """Where and how a buffer lies.

    Attributes:
        address: of the first element.
        shape: of the array.
        dtype: of an element.
        is_contiguous: whether the rows follow each other without gaps.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_contiguous: bool

    def __str__(self) -> str:
        gaps = "" if self.is_contiguous else " with gaps"
        return f"{self.dtype} {list(self.shape)}{gaps}"


def layout_of(where: str, buffer: Any) -> Layout:
    """Read a buffer's layout: a device picture, or a NumPy array.

    Args:
        where: kernel and parameter, for the message.
        buffer: has `__cuda_array_interface__` or `__array_interface__`.

    Raises:
        KernelError: it has neither.
    """
    interface = getattr(buffer, "__cuda_array_interface__", None)
    if interface is None:
        interface = getattr(buffer, "__array_interface__", None)
    if interface is None:
        raise KernelError(
            f"{where} is a {type(buffer).__name__}, expected something with "
            "__cuda_array_interface__; move it to the device first"
        )
    shape = tuple(map(int, interface["shape"]))
    dtype = np.dtype(interface["typestr"])
    strides = interface.get("strides")
    is_contiguous = strides is None or _is_dense(shape, strides, dtype.itemsize)
    return Layout(int(interface["data"][0]), shape, dtype, is_contiguous)


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Return whether the strides (bytes) are those of C order."""
    step = itemsize
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        # the stride of an axis of one element is never used
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def require(
    where: str, buffer: Any, shape: tuple[int, ...], dtype: DTypeLike, alignment: int
) -> None:
    """Refuse a buffer that a kernel could not take.

    Args:
        where: kernel and parameter, for the message.
        buffer: what was given.
        shape: what is expected, exactly.
        dtype: of an element.
        alignment: bytes that the address must be a multiple of.

    Raises:
        KernelError: another shape or dtype, gaps between rows, too large, or misaligned.
    """
    found = layout_of(where, buffer)
    if found.shape != shape or found.dtype != dtype:
        wanted = f"{np.dtype(dtype)} {list(shape)}"
        raise KernelError(f"{where} is {found}, expected {wanted}; convert or reshape it")
    if not found.is_contiguous:
        raise KernelError(f"{where} is {found}, expected it contiguous; copy it first")
    if not 0 < math.prod(shape) <= LARGEST:
        raise KernelError(f"{where} is {found}, expected 1 to 2**30 elements; split or drop it")
    if found.address % alignment:
        raise KernelError(
            f"{where} lies at {found.address:#x}, expected a multiple of {alignment} bytes; "
            "pass the start of an allocation, not a slice of it"
        )
