"""How warp is launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.buffers import Layout, layout_of, require
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.pipeline.errors import KernelError

COLUMNS, ROWS = 32, 8  # threads of a block along x and y, a pixel each


def plan(picture: Any, flow: Any, out: Any) -> list[Launch]:
    """Plan the fetch of a picture along a flow.

    Args:
        picture: float32 [1, C, H, W], or uint8 [1, H, W, 4]; contiguous, aligned to 4 bytes.
        flow: float32 [1, H, W, 2], pixels (dx, dy), contiguous, aligned to 8 bytes.
        out: as picture; another buffer.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    layout = layout_of("kernel 'warp': picture", picture)
    entry, channels, height, width = _form(layout)
    where = f"kernel '{entry}'"
    for label, buffer in (("picture", picture), ("out", out)):
        require(f"{where}: {label}", buffer, layout.shape, layout.dtype, 4)
    require(f"{where}: flow", flow, (1, height, width, 2), np.float32, 8)
    if layout_of("out", out).address == layout.address:
        raise KernelError(
            f"{where}: out is picture, whose pixels other threads still fetch; "
            "give it a buffer of its own"
        )
    sizes = (width, height, channels) if entry == "warp_f32" else (width, height)
    grid = blocks_for(width, COLUMNS), blocks_for(height, ROWS), 1
    return [Launch(entry, grid, (COLUMNS, ROWS, 1), (picture, flow, out, *map(np.int32, sizes)))]


def _form(layout: Layout) -> tuple[str, int, int, int]:
    """Return entry, channels, height and width of a picture."""
    if len(layout.shape) == 4 and layout.shape[0] == 1:
        if layout.dtype == np.float32:
            return ("warp_f32", *layout.shape[1:])
        if layout.dtype == np.uint8 and layout.shape[3] == 4:
            return "warp_u8", 4, layout.shape[1], layout.shape[2]
    raise KernelError(
        f"kernel 'warp': picture is {layout}, expected float32 [1, C, H, W] or uint8 [1, H, W, 4]; "
        "convert or reshape it"
    )
