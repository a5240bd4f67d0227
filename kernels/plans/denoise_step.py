"""How denoise_step is launched, and the record that it reads its coefficients from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsd.kernels.plans.buffers import layout_of, require
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.pipeline.errors import KernelError

THREADS = 128
VECTOR = 4  # elements a thread
ENTRIES = {np.dtype(np.float32): "denoise_step_f32", np.dtype(np.float16): "denoise_step_f16"}

# What the kernel reads anew at every launch, 48 bytes at a multiple of 16 on the device:
# out = clamp(a x + b D + c noise(seed, frame, step), low, high).
COEFFICIENTS = np.dtype(
    {
        "names": ["a", "b", "low", "high", "seed", "frame", "step", "c"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u8", "<u4", "<u4", "<f4"],
        "offsets": [0, 4, 8, 12, 16, 24, 28, 32],
        "itemsize": 48,
    }
)


def coefficients(
    a: float,
    b: float,
    c: float = 0.0,
    *,
    seed: int = 0,
    frame: int = 0,
    step: int = 0,
    low: float = -math.inf,
    high: float = math.inf,
) -> NDArray[np.void]:
    """Fill a record.

    Args:
        a: gain of x.
        b: gain of the estimate.
        c: gain of the noise; 0: none is made.
        seed: of the stream, 0 to 2**64 - 1.
        frame: which frame, 0 to 2**32 - 1.
        step: which denoise step of the frame, 0 to 2**32 - 1.
        low: lower bound of the result; -inf: none.
        high: upper bound of the result; inf: none.

    Returns:
        COEFFICIENTS [1], host memory, owned by the caller.
    """
    record = np.zeros(1, COEFFICIENTS)
    record[0] = (a, b, low, high, seed, frame, step, c)
    return record


def plan(x: Any, denoised: Any, record: Any, out: Any) -> list[Launch]:
    """Plan one step over a whole batch.

    Args:
        x: float32 or float16, any shape, contiguous, aligned to 4 elements.
        denoised: the estimate, same shape and dtype.
        record: 48 bytes of any dtype laid out as COEFFICIENTS, aligned to 16; read at the launch.
        out: same shape and dtype; may be `x` or `denoised`, and may not overlap them otherwise.

    Raises:
        KernelError: a buffer of another shape, dtype, size or alignment.
    """
    layout = layout_of("kernel 'denoise_step': x", x)
    entry = ENTRIES.get(layout.dtype)
    if entry is None:
        raise KernelError(
            f"kernel 'denoise_step': x is {layout}, expected float32 or float16; convert it first"
        )
    for label, buffer in (("x", x), ("denoised", denoised), ("out", out)):
        where = f"kernel '{entry}': {label}"
        require(where, buffer, layout.shape, layout.dtype, VECTOR * layout.dtype.itemsize)
    _require_record(f"kernel '{entry}': record", record)
    count = math.prod(layout.shape)
    grid = blocks_for(count, VECTOR * THREADS)
    args = (x, denoised, record, out, np.int32(count))
    return [Launch(entry, (grid, 1, 1), (THREADS, 1, 1), args)]


def _require_record(where: str, record: Any) -> None:
    found = layout_of(where, record)
    items = COEFFICIENTS.itemsize // found.dtype.itemsize
    shape = found.shape if math.prod(found.shape) == items else (items,)
    require(where, record, shape, found.dtype, 16)
