"""What the kernels between pixels and planes share: tile, byte order, pitch."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from lsd.kernels.plans.buffers import Layout, layout_of, require
from lsd.kernels.plans.launch import Dim, blocks_for
from lsd.pipeline.errors import KernelError

Order = Literal["rgb", "bgr"]

QUADS, ROWS = 32, 4  # threads of a block along x and y; each has 4 pixels of a row
VECTOR = 4
FLOATS = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}


class Planes(NamedTuple):
    """Planes of a batch, and which of them the bytes of a pixel belong to.

    Attributes:
        dtype: "f32" or "f16".
        batch, height, width: of the pictures.
        first: elements from the red plane to that of a pixel's first byte.
        last: the same of its last byte.
    """

    dtype: str
    batch: int
    height: int
    width: int
    first: int
    last: int

    @property
    def plane(self) -> int:
        """Elements of a plane."""
        return self.height * self.width

    @property
    def grid(self) -> Dim:
        """Blocks that cover the batch."""
        return grid_over(self.batch, self.height, self.width)


class Copy(NamedTuple):
    """A kernel between pixels and planes of one size: its entry, grid, and numbers."""

    entry: str
    grid: Dim
    numbers: tuple[Any, ...]


def grid_over(batch: int, height: int, width: int) -> Dim:
    """Return the blocks of QUADS x ROWS threads that cover a batch."""
    return blocks_for(width, VECTOR * QUADS), blocks_for(height, ROWS), batch


def planes_of(where: str, buffer: Any, order: Order) -> Planes:
    """Check planes, float32 or float16 [B, 3, H, W], aligned to 4 elements.

    Raises:
        KernelError: another shape, dtype, alignment or order.
    """
    layout = layout_of(where, buffer)
    kind = FLOATS.get(layout.dtype)
    if kind is None or len(layout.shape) != 4 or layout.shape[1] != 3:
        raise KernelError(
            f"{where} is {layout}, expected float32 or float16 [B, 3, H, W]; convert it first"
        )
    require(where, buffer, layout.shape, layout.dtype, VECTOR * layout.dtype.itemsize)
    if order not in ("rgb", "bgr"):
        raise KernelError(f"{where}: the order is {order!r}, expected 'rgb' or 'bgr'")
    batch, _, height, width = layout.shape
    ends = (0, 2 * height * width)
    first, last = ends if order == "rgb" else ends[::-1]
    return Planes(kind, batch, height, width, first, last)


def pitch_of(where: str, buffer: Any, batch: int, height: int, width: int) -> int:
    """Check pixels, and return the bytes from one row to the next.

    Args:
        where: kernel and parameter, for the message.
        buffer: uint8 [B, H, W, 3], or [B, H, pitch] where rows are padded.
        batch, height, width: what is expected.

    Raises:
        KernelError: another shape or dtype, or a pitch that is too short for a row.
    """
    layout = layout_of(where, buffer)
    is_padded = len(layout.shape) == 3
    row = layout.shape[-1] if is_padded else 3 * width
    wanted = (batch, height, row) if is_padded else (batch, height, width, 3)
    require(where, buffer, wanted, np.uint8, 1)
    if row < 3 * width:
        raise KernelError(
            f"{where} has rows of {row} bytes, expected {3 * width} or more for {width} pixels"
        )
    return row


def same_size(op: str, pixels: tuple[str, Any], planes: tuple[str, Any], order: Order) -> Copy:
    """Check pixels and planes of one size, and find a kernel's way between them.

    Args:
        op: the kernel's; its entries are `<op>_f32` and `<op>_f16`.
        pixels: what the kernel calls them, and uint8 [B, H, W, 3], or [B, H, pitch] where rows are
            padded.
        planes: the same, and float32 or float16 [B, 3, H, W], contiguous, aligned to 4 elements.
        order: of a pixel's bytes; the planes are red, green, blue.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    found = planes_of(f"kernel '{op}': {planes[0]}", planes[1], order)
    entry = f"{op}_{found.dtype}"
    where = f"kernel '{entry}': {pixels[0]}"
    pitch = pitch_of(where, pixels[1], found.batch, found.height, found.width)
    is_vector = keeps_to_words(layout_of(where, pixels[1]), pitch, found.width)
    numbers = (found.width, found.height, pitch, found.plane, found.first, found.last)
    return Copy(entry, found.grid, (*map(np.int32, numbers), np.uint32(is_vector)))


def keeps_to_words(pixels: Layout, pitch: int, width: int) -> bool:
    """Return whether each thread's four pixels begin at a word, in every row."""
    return pixels.address % 4 == 0 and pitch % 4 == 0 and width % VECTOR == 0


def nv12_pitch(entry: str, luma: Any, chroma: Any, planes: Planes) -> int:
    """Check both planes of NV12, and return the bytes from one row to the next.

    Args:
        entry: name of the kernel.
        luma: uint8 [H, pitch].
        chroma: uint8 [H / 2, pitch].
        planes: of the picture.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment, or a size that NV12 has not.
    """
    height, width = planes.height, planes.width
    if planes.dtype != "f32" or planes.batch != 1 or width % 4 or height % 2:
        raise KernelError(
            f"kernel '{entry}': planes are {planes.dtype} [{planes.batch}, 3, {height}, {width}], "
            "expected f32 [1, 3, H, W] with W a multiple of 4 and H even; resize the picture"
        )
    layout = layout_of(f"kernel '{entry}': luma", luma)
    pitch = layout.shape[-1]
    if pitch < width or pitch % 4:
        raise KernelError(
            f"kernel '{entry}': luma has rows of {pitch} bytes, expected {width} or more, a "
            "multiple of 4"
        )
    require(f"kernel '{entry}': luma", luma, (height, pitch), np.uint8, 4)
    require(f"kernel '{entry}': chroma", chroma, (height // 2, pitch), np.uint8, 4)
    return pitch
