"""How temporal_blend is launched, and the settings that it reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsd.kernels.plans.buffers import layout_of, require
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.kernels.plans.pixels import QUADS, ROWS, VECTOR, Planes, grid_over, planes_of
from lsd.pipeline.errors import KernelError

COLUMNS, WARP_ROWS = 32, 8  # a block of the warp entries, a pixel a thread
SETTINGS = 2  # float32: amount, most


def settings(amount: float, most: float) -> NDArray[np.float32]:
    """Return what the kernel reads anew at every launch, float32 [2], host memory.

    Args:
        amount: scales the weight, 0 or more.
        most: the largest weight of the past, 0 to 1.
    """
    return np.array([amount, most], np.float32)


def plan(previous: Any, current: Any, weight: Any, values: Any, out: Any) -> list[Launch]:
    """Plan the mix of a picture with a past that is warped already.

    Args:
        previous, current: float32 or float16 [1, 3, H, W], contiguous, aligned to 4 elements.
        weight: float32 [1, 1, h, w], of the picture's size or smaller, aligned to 16 bytes.
        values: float32 [2], see `settings`; read at the launch.
        out: as current; may be `current`.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    planes = _pictures("temporal_blend", previous, current, out)
    entry = f"temporal_blend_{planes.dtype}"
    columns, rows = _weight(entry, weight, planes)
    require(f"kernel '{entry}': settings", values, (SETTINGS,), np.float32, 8)
    by_fours = planes.width % VECTOR == 0
    is_whole = by_fours and (columns, rows) == (planes.width, planes.height)
    args = (previous, current, weight, values, out, *_numbers(planes, columns, rows))
    mode = np.uint32(is_whole + 2 * by_fours)
    grid = grid_over(1, planes.height, planes.width)
    return [Launch(entry, grid, (QUADS, ROWS, 1), (*args, mode))]


def plan_warp(
    previous: Any, current: Any, weight: Any, flow: Any, backward: Any, values: Any, out: Any
) -> list[Launch]:
    """Plan the mix of a picture with a past that is warped on the way.

    Args:
        previous, current, weight, values, out: as of `plan`; `out` may not be `previous`.
        flow: float32 [1, H, W, 2], pixels (dx, dy) from this picture to the last one.
        backward: the same from the last picture to this one, for the test of occlusion, or None.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment.
    """
    planes = _pictures("temporal_blend_warp", previous, current, out)
    entry = f"temporal_blend_warp_{planes.dtype}"
    columns, rows = _weight(entry, weight, planes)
    require(f"kernel '{entry}': settings", values, (SETTINGS,), np.float32, 8)
    for label, given in (("flow", flow), ("backward", backward)):
        if given is not None:
            shape = (1, planes.height, planes.width, 2)
            require(f"kernel '{entry}': {label}", given, shape, np.float32, 8)
    if layout_of("out", out).address == layout_of("previous", previous).address:
        raise KernelError(
            f"kernel '{entry}': out is previous, whose pixels other threads still fetch; "
            "give it a buffer of its own"
        )
    grid = blocks_for(planes.width, COLUMNS), blocks_for(planes.height, WARP_ROWS), 1
    numbers = _numbers(planes, columns, rows)
    args = (previous, current, weight, flow, backward, values, out, *numbers)
    return [Launch(entry, grid, (COLUMNS, WARP_ROWS, 1), args)]


def _pictures(op: str, previous: Any, current: Any, out: Any) -> Planes:
    planes = planes_of(f"kernel '{op}': current", current, "rgb")
    layout = layout_of("current", current)
    if planes.batch != 1:
        raise KernelError(f"kernel '{op}': current is {layout}, expected a batch of 1")
    for label, buffer in (("previous", previous), ("out", out)):
        where = f"kernel '{op}_{planes.dtype}': {label}"
        require(where, buffer, layout.shape, layout.dtype, VECTOR * layout.dtype.itemsize)
    return planes


def _weight(entry: str, weight: Any, planes: Planes) -> tuple[int, int]:
    """Check the weight, and return its columns and rows."""
    where = f"kernel '{entry}': weight"
    layout = layout_of(where, weight)
    require(where, weight, (1, 1, *layout.shape[-2:]), np.float32, 16)
    rows, columns = layout.shape[-2:]
    if rows > planes.height or columns > planes.width:
        raise KernelError(
            f"{where} is {layout}, expected at most the picture's {planes.height} x {planes.width}"
        )
    return columns, rows


def _numbers(planes: Planes, columns: int, rows: int) -> tuple[Any, ...]:
    sizes = (planes.width, planes.height, planes.plane, columns, rows)
    steps = (columns / planes.width, rows / planes.height)
    return (*map(np.int32, sizes), *map(np.float32, steps))
