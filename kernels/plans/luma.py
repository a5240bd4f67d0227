"""How luma is launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.buffers import layout_of, require
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.pixels import QUADS, ROWS, grid_over, keeps_to_words, pitch_of
from lsd.pipeline.errors import KernelError


def plan(pixels: Any, out: Any) -> list[Launch]:
    """Plan the luma of pixels.

    Args:
        pixels: uint8 RGB [B, H, W, 3], or [B, H, pitch] where rows are padded.
        out: uint8 [B, H, W, 1], contiguous.

    Raises:
        KernelError: a buffer of another shape or dtype.
    """
    where = "kernel 'luma_u8'"
    layout = layout_of(f"{where}: out", out)
    if len(layout.shape) != 4 or layout.shape[3] != 1:
        raise KernelError(f"{where}: out is {layout}, expected uint8 [B, H, W, 1]; reshape it")
    batch, height, width, _ = layout.shape
    require(f"{where}: out", out, layout.shape, np.uint8, 1)
    pitch = pitch_of(f"{where}: pixels", pixels, batch, height, width)
    lies_well = keeps_to_words(layout_of(f"{where}: pixels", pixels), pitch, width)
    is_vector = lies_well and layout.address % 4 == 0
    numbers = (np.int32(width), np.int32(height), np.int32(pitch), np.uint32(is_vector))
    grid = grid_over(batch, height, width)
    return [Launch("luma_u8", grid, (QUADS, ROWS, 1), (pixels, out, *numbers))]
