"""How tensor_to_frame is launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.pixels import (
    QUADS,
    ROWS,
    Order,
    grid_over,
    nv12_pitch,
    planes_of,
    same_size,
)


def plan(x: Any, out: Any, order: Order = "rgb") -> list[Launch]:
    """Plan the way from planes to pixels.

    Args:
        x: float32 or float16 [B, 3, H, W], contiguous, aligned to 4 elements.
        out: uint8 [B, H, W, 3], or [B, H, pitch] where rows are padded; the padding stays as it is.
        order: of a pixel's bytes in `out`; the planes are red, green, blue.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    way = same_size("tensor_to_frame", ("out", out), ("x", x), order)
    return [Launch(way.entry, way.grid, (QUADS, ROWS, 1), (x, out, *way.numbers))]


def plan_nv12(x: Any, luma: Any, chroma: Any) -> list[Launch]:
    """Plan the way from planes to NV12.

    Args:
        x: float32 [1, 3, H, W], contiguous, aligned to 16 bytes.
        luma: uint8 [H, pitch], W <= pitch; contiguous, aligned to 4 bytes; padding stays as it is.
        chroma: uint8 [H / 2, pitch], pairs of U and V; likewise.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment; W no multiple of 4, H odd.
    """
    entry = "tensor_to_frame_nv12_f32"
    planes = planes_of(f"kernel '{entry}': x", x, "rgb")
    pitch = nv12_pitch(entry, luma, chroma, planes)
    numbers = map(np.int32, (planes.width, planes.height, pitch, planes.plane))
    grid = grid_over(1, planes.height // 2, planes.width)
    return [Launch(entry, grid, (QUADS, ROWS, 1), (x, luma, chroma, *numbers))]
