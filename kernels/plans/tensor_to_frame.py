"""How tensor_to_frame is launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.buffers import layout_of
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.pixels import (
    QUADS,
    ROWS,
    Order,
    grid_over,
    keeps_to_words,
    nv12_pitch,
    pitch_of,
    planes_of,
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
    planes = planes_of("kernel 'tensor_to_frame': x", x, order)
    where = f"kernel 'tensor_to_frame_{planes.dtype}': out"
    pitch = pitch_of(where, out, planes.batch, planes.height, planes.width)
    is_vector = keeps_to_words(layout_of(where, out), pitch, planes.width)
    numbers = (planes.width, planes.height, pitch, planes.plane, planes.first, planes.last)
    args = (x, out, *map(np.int32, numbers), np.uint32(is_vector))
    return [Launch(f"tensor_to_frame_{planes.dtype}", planes.grid, (QUADS, ROWS, 1), args)]


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
