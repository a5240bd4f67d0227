"""How guard is launched, and the limits that it holds a picture to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsd.kernels.plans.buffers import Layout, layout_of, require
from lsd.kernels.plans.frame_stats import WORDS
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.kernels.plans.pixels import FLOATS
from lsd.pipeline.errors import KernelError

THREADS = 256  # of a block
BYTES = 16  # of a picture a thread
LIMITS = (2,)  # float32: flat, jump
VERDICT = (4,)  # uint32: the code, three zeros


def limits(flat: float, jump: float) -> NDArray[np.float32]:
    """Return what the kernel reads anew at every launch, float32 [2], host memory.

    Args:
        flat: std below which a picture is one colour; 0: it may be.
        jump: how far its mean may be from the last output's; inf: as far as it likes.
    """
    return np.array([flat, jump], np.float32)


def plan(
    x: Any, good: Any, stats: Any, last: Any, limits: Any, out: Any, verdict: Any
) -> list[Launch]:
    """Plan the decision about a picture, and the copy of the one that is shown.

    Args:
        x: float32 or float16, contiguous.
        good: same shape and dtype, what stands in.
        stats: uint32 [516], aligned to 16 bytes, what frame_stats found of `x`.
        last: the same of the last output, or None.
        limits: float32 [2], aligned to 8 bytes, see `limits`; read at the launch.
        out: as x; shares no byte with `x` or `good`.
        verdict: uint32 [4], aligned to 16 bytes; overwritten.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment; `out` overlaps a picture.
    """
    layout = layout_of("kernel 'guard': x", x)
    kind = FLOATS.get(layout.dtype)
    if kind is None:
        raise KernelError(f"kernel 'guard': x is {layout}, expected float32 or float16; convert it")
    where, size = f"kernel 'guard_{kind}'", layout.dtype.itemsize
    for label, buffer in (("x", x), ("good", good), ("out", out)):
        require(f"{where}: {label}", buffer, layout.shape, layout.dtype, size)
    for label, words in (("stats", stats), ("last", last)):
        if words is not None or label == "stats":
            require(f"{where}: {label}", words, WORDS, np.uint32, 16)
    require(f"{where}: limits", limits, LIMITS, np.float32, 8)
    require(f"{where}: verdict", verdict, VERDICT, np.uint32, 16)
    count = math.prod(layout.shape)
    pictures = [layout, layout_of("good", good), layout_of("out", out)]
    _refuse_overlap(where, pictures, count * size)
    values = BYTES // size
    is_aligned = all(each.address % BYTES == 0 for each in pictures)
    sizes = np.int32(count), np.int32(count - count % values if is_aligned else 0)
    args = (x, good, stats, last, limits, out, verdict, *sizes)
    grid = blocks_for(count, values * THREADS), 1, 1
    return [Launch(f"guard_{kind}", grid, (THREADS, 1, 1), args)]


def _refuse_overlap(where: str, pictures: list[Layout], size: int) -> None:
    *read, out = pictures
    for label, picture in zip(("x", "good"), read, strict=True):
        if abs(picture.address - out.address) < size:
            raise KernelError(
                f"{where}: out overlaps {label}, which other threads still read; "
                "give it a buffer of its own"
            )
