"""How moment_match is launched: sums of the channels, then one pass over the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lsd.kernels.plans.buffers import layout_of, require
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.pipeline.errors import KernelError

STATS_THREADS, THREADS = 512, 128
ROWS = THREADS // 32  # a warp takes a row
VECTOR = 4
PARTS = 32  # partial sums a channel
PARTIALS = (3, PARTS)  # shape of the float32 scratch between the launches
CONTROL = (5,)  # float32: rate, limit, the contrast of each channel
CELL_BYTES = 32  # of a row's table in shared memory
MOST_SHARED = 48 * 1024  # bytes that any card gives a block unasked
WIDEST_GRID = MOST_SHARED // (CELL_BYTES * ROWS)  # cells
DTYPES = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}


def control(contrast: ArrayLike, rate: float, limit: float) -> NDArray[np.float32]:
    """Return what the kernel reads anew at every launch, float32 [5], host memory.

    Args:
        contrast: [3], the reference's std over the picture's, around 1.
        rate: 0 (off) to 1.
        limit: largest shift, and largest change of contrast, that is believed.
    """
    return np.concatenate([[rate, limit], np.ravel(contrast)]).astype(np.float32)


def plan(x: Any, grid_shift: Any, values: Any, partials: Any, out: Any) -> list[Launch]:
    """Plan both launches; they run in order on one stream.

    Args:
        x: float32 or float16 [1, 3, H, W], contiguous, aligned to 4 elements.
        grid_shift: float32 [1, 3, h, w], the missing colour a cell, w <= WIDEST_GRID.
        values: float32 [5] as `control` returns, aligned to 8 bytes; read at the launch.
        partials: float32 [3, 32], aligned to 16 bytes; overwritten.
        out: same shape and dtype as `x`; may be `x`, and may not overlap it otherwise.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment; a grid too wide for
            shared memory.
    """
    where = "kernel 'moment_match'"
    layout = layout_of(f"{where}: x", x)
    kind = DTYPES.get(layout.dtype)
    if kind is None or len(layout.shape) != 4 or layout.shape[:2] != (1, 3):
        raise KernelError(
            f"{where}: x is {layout}, expected float32 or float16 [1, 3, H, W]; convert it first"
        )
    where = f"kernel 'moment_match_{kind}'"
    for label, buffer in (("x", x), ("out", out)):
        alignment = VECTOR * layout.dtype.itemsize
        require(f"{where}: {label}", buffer, layout.shape, layout.dtype, alignment)
    cells = _cells(where, grid_shift)
    require(f"{where}: values", values, CONTROL, np.float32, 8)
    require(f"{where}: partials", partials, PARTIALS, np.float32, 16)

    rows, columns = layout.shape[2:]
    stats = Launch(
        f"moment_match_stats_{kind}",
        (PARTS, 3, 1),
        (STATS_THREADS, 1, 1),
        (x, partials, np.int32(rows * columns)),
    )
    sizes = map(np.int32, (rows, columns, *cells))
    scales = map(np.float32, (cells[0] / rows, cells[1] / columns, 1.0 / (rows * columns)))
    apply = Launch(
        f"moment_match_{kind}",
        (blocks_for(rows, ROWS), 1, 1),
        (THREADS, 1, 1),
        (x, partials, grid_shift, values, out, *sizes, *scales),
        CELL_BYTES * ROWS * cells[1],
    )
    return [stats, apply]


def _cells(where: str, grid_shift: Any) -> tuple[int, int]:
    """Check the grid, and return its rows and columns."""
    where = f"{where}: grid_shift"
    layout = layout_of(where, grid_shift)
    require(where, grid_shift, (1, 3, *layout.shape[-2:]), np.float32, 4)
    rows, columns = layout.shape[-2:]
    if columns > WIDEST_GRID:
        raise KernelError(
            f"{where} is {layout}, expected at most {WIDEST_GRID} columns, as a row of cells lies "
            "in shared memory; take a coarser grid"
        )
    return rows, columns
