"""How pack_history is launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.buffers import layout_of, require
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.kernels.plans.pixels import VECTOR, planes_of
from lsd.pipeline.errors import KernelError

THREADS = 128  # of a block; each has 4 pixels


def plan(x: Any, source: Any, out: Any) -> list[Launch]:
    """Plan how a picture and the luma of its source become the past.

    Args:
        x: float32 or float16 [1, 3, H, W], contiguous, aligned to 4 elements.
        source: uint8 RGB [1, H, W, 3], contiguous.
        out: uint8 [1, H, W, 4], contiguous, aligned to 4 bytes: R, G, B of `x`, luma of `source`.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    planes = planes_of("kernel 'pack_history': x", x, "rgb")
    where = f"kernel 'pack_history_{planes.dtype}'"
    if planes.batch != 1:
        raise KernelError(f"{where}: x is {layout_of('x', x)}, expected a batch of 1")
    size = (1, planes.height, planes.width)
    require(f"{where}: source", source, (*size, 3), np.uint8, 1)
    require(f"{where}: out", out, (*size, 4), np.uint8, 4)
    starts = layout_of("source", source).address, layout_of("out", out).address
    is_vector = planes.plane % VECTOR == 0 and starts[0] % 4 == 0 and starts[1] % 16 == 0
    args = (x, source, out, np.int32(planes.plane), np.uint32(is_vector))
    grid = blocks_for(planes.plane, VECTOR * THREADS), 1, 1
    return [Launch(f"pack_history_{planes.dtype}", grid, (THREADS, 1, 1), args)]
