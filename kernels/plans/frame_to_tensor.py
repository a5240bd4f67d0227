"""How frame_to_tensor is launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.buffers import layout_of
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.kernels.plans.pixels import (
    QUADS,
    ROWS,
    Order,
    grid_over,
    nv12_pitch,
    pitch_of,
    planes_of,
    same_size,
)
from lsd.pipeline.errors import KernelError

COLUMNS, PIXEL_ROWS = 32, 8  # threads of a block of the scaling entries, a pixel each


def plan(pixels: Any, out: Any, order: Order = "rgb") -> list[Launch]:
    """Plan the way from pixels to planes of the same size.

    Args:
        pixels: uint8 [B, H, W, 3], or [B, H, pitch] where rows are padded.
        out: float32 or float16 [B, 3, H, W], contiguous, aligned to 4 elements.
        order: of a pixel's bytes; the planes are red, green, blue.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    way = same_size("frame_to_tensor", ("pixels", pixels), ("out", out), order)
    return [Launch(way.entry, way.grid, (QUADS, ROWS, 1), (pixels, out, *way.numbers))]


def plan_scaled(pixels: Any, out: Any, order: Order = "rgb") -> list[Launch]:
    """Plan the way from pixels to planes of another size.

    Shrinking on both axes takes the mean over areas, all else is bilinear.

    Args:
        pixels: uint8 [B, h, w, 3], contiguous.
        out: float32 or float16 [B, 3, H, W], contiguous, aligned to 4 elements.
        order: of a pixel's bytes; the planes are red, green, blue.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    planes = planes_of("kernel 'frame_to_tensor': out", out, order)
    layout = layout_of("kernel 'frame_to_tensor': pixels", pixels)
    if len(layout.shape) != 4:
        raise KernelError(
            f"kernel 'frame_to_tensor': pixels is {layout}, expected uint8 [B, h, w, 3]"
        )
    _, rows, columns, _ = layout.shape
    shrinks = rows >= planes.height and columns >= planes.width
    entry = f"frame_to_tensor_{'area' if shrinks else 'resize'}_{planes.dtype}"
    pitch = pitch_of(f"kernel '{entry}': pixels", pixels, planes.batch, rows, columns)
    sizes = (planes.width, planes.height, pitch, planes.plane, planes.first, planes.last)
    steps = (columns / planes.width, rows / planes.height)
    floats = (*steps, 1.0 / (127.5 * steps[0] * steps[1])) if shrinks else steps
    numbers = (*map(np.int32, (*sizes, columns, rows)), *map(np.float32, floats))
    grid = blocks_for(planes.width, COLUMNS), blocks_for(planes.height, PIXEL_ROWS), planes.batch
    return [Launch(entry, grid, (COLUMNS, PIXEL_ROWS, 1), (pixels, out, *numbers))]


def plan_nv12(luma: Any, chroma: Any, out: Any) -> list[Launch]:
    """Plan the way from NV12 to planes of the same size.

    Args:
        luma: uint8 [H, pitch], W <= pitch; contiguous, aligned to 4 bytes.
        chroma: uint8 [H / 2, pitch], pairs of U and V; likewise.
        out: float32 [1, 3, H, W], contiguous, aligned to 16 bytes.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment; W no multiple of 4, H odd.
    """
    entry = "frame_to_tensor_nv12_f32"
    planes = planes_of(f"kernel '{entry}': out", out, "rgb")
    pitch = nv12_pitch(entry, luma, chroma, planes)
    numbers = map(np.int32, (planes.width, planes.height, pitch, planes.plane))
    grid = grid_over(1, planes.height, planes.width)
    return [Launch(entry, grid, (QUADS, ROWS, 1), (luma, chroma, out, *numbers))]
