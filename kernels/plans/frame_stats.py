"""How frame_stats is launched, and the words in which it says what it found."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.buffers import layout_of, require
from lsd.kernels.plans.launch import Dim, Launch, blocks_for
from lsd.pipeline.errors import KernelError

THREADS = 256
WARPS = THREADS // 32  # a warp takes a row of every 8
TILE_COLUMNS = 128  # 4 pixels a lane
VECTOR = 4
MOST_ROW_STEPS = 8  # rows a warp
PIXELS_A_STEP = 2**16  # 64 blocks fill half a large card; then a block takes more rows
MOST_BLOCKS = 65535  # along y
RECORD = 8  # float32 that a warp leaves for the second launch
BINS = 512  # 8 x 8 x 8
COUNTS = (BINS + 2,)  # uint32: the bins, how many values are bad, one unused
WORDS = (4 + BINS,)  # what the guards read, 32 bits each
DTYPES = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}

# The words by name: view a host's copy of them, uint32 [516], as this.
STATS = np.dtype(
    [
        ("mean", "<f4"),
        ("std", "<f4"),
        ("bad", "<u4"),
        ("laplacian", "<f4"),
        ("histogram", "<u4", (BINS,)),
    ]
)


def row_steps(height: int, width: int) -> int:
    """Return how many rows a warp takes, 1 to 8: more where there are blocks enough."""
    return min(MOST_ROW_STEPS, max(1, height * width // PIXELS_A_STEP))


def partials_shape(height: int, width: int) -> tuple[int, int]:
    """Return the shape of the float32 scratch between the launches."""
    columns, rows, _ = _grid(height, width)
    return columns * rows * WARPS, RECORD


def plan(x: Any, partials: Any, counts: Any, stats: Any) -> list[Launch]:
    """Plan both launches; they run in order on one stream.

    Args:
        x: float32 or float16 [1, 3, H, W], contiguous, aligned to 4 elements.
        partials: float32 of `partials_shape`, aligned to 16 bytes; overwritten.
        counts: uint32 [514], aligned to 8 bytes: zero before the first picture; zero again after
            every picture, so that nobody has to clear it.
        stats: uint32 [516], aligned to 16 bytes, laid out as STATS; overwritten.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment; more rows than a grid holds.
    """
    where = "kernel 'frame_stats'"
    layout = layout_of(f"{where}: x", x)
    kind = DTYPES.get(layout.dtype)
    if kind is None or len(layout.shape) != 4 or layout.shape[:2] != (1, 3):
        raise KernelError(
            f"{where}: x is {layout}, expected float32 or float16 [1, 3, H, W]; convert it first"
        )
    where = f"kernel 'frame_stats_{kind}'"
    require(f"{where}: x", x, layout.shape, layout.dtype, VECTOR * layout.dtype.itemsize)
    rows, columns = layout.shape[2:]
    grid = _grid(rows, columns)
    if grid[1] > MOST_BLOCKS:
        raise KernelError(f"{where}: x has {rows} rows, more than a grid holds; turn it")
    records = partials_shape(rows, columns)
    require(f"{where}: partials", partials, records, np.float32, 16)
    require(f"{where}: counts", counts, COUNTS, np.uint32, 8)
    require(f"{where}: stats", stats, WORDS, np.uint32, 16)

    sizes = map(np.int32, (rows, columns, row_steps(rows, columns)))
    inner = 3 * max(rows - 2, 0) * max(columns - 2, 0)
    numbers = map(np.float32, (1.0 / (3 * rows * columns), 1.0 / inner if inner else 0.0))
    block = (THREADS, 1, 1)
    measure = Launch(f"frame_stats_{kind}", grid, block, (x, partials, counts, *sizes))
    args = (partials, counts, stats, np.int32(records[0]), *numbers)
    return [measure, Launch("frame_stats_finish_f32", (1, 1, 1), block, args)]


def _grid(height: int, width: int) -> Dim:
    rows = WARPS * row_steps(height, width)
    return blocks_for(width, TILE_COLUMNS), blocks_for(height, rows), 1
