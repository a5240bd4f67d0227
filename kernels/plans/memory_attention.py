"""How memory_attention is launched."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lsd.kernels.plans.buffers import layout_of, require
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.pipeline.errors import KernelError

THREADS = 256  # a block, and the columns of the values that it makes
VECTOR = 4
STATIC_SHARED = 4160  # bytes
MOST_SHARED = 48 * 1024  # bytes that any card gives a block unasked
MOST_ENTRIES = (MOST_SHARED - STATIC_SHARED) // 4  # a float32 of each lies in shared memory
COLDEST = 1e-37  # below it, its inverse is no float32
LONGEST_KEY = 2**28  # elements: a lane's place in a key is counted in bytes
DTYPES = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}


def plan(query: Any, keys: Any, values: Any, temperature: float, out: Any) -> list[Launch]:
    """Plan a recall.

    Args:
        query: float32 [D], aligned to 16 bytes.
        keys: float32 or float16 [N, D], contiguous, aligned to 4 elements, 1 <= N <= MOST_ENTRIES.
        values: as keys, [N, V].
        temperature: of the softmax, > 0.
        out: float32 [V + 1], the recalled value and the best cosine; overlaps no other buffer.

    Raises:
        KernelError: a buffer of another shape, dtype or alignment; more entries than shared memory
            holds; a temperature that is not positive.
    """
    where = "kernel 'memory_attention'"
    key, value = layout_of(f"{where}: keys", keys), layout_of(f"{where}: values", values)
    kind = DTYPES.get(key.dtype)
    if kind is None or len(key.shape) != 2 or len(value.shape) != 2:
        raise KernelError(
            f"{where}: keys are {key} and values {value}, expected float32 or float16 [N, D] and "
            "[N, V]; convert or reshape them"
        )
    where = f"kernel 'memory_attention_{kind}'"
    (entries, key_size), value_size = key.shape, value.shape[1]
    sharpness = _sharpness(where, entries, key_size, temperature)
    alignment = VECTOR * key.dtype.itemsize
    require(f"{where}: query", query, (key_size,), np.float32, 16)
    require(f"{where}: keys", keys, (entries, key_size), key.dtype, alignment)
    require(f"{where}: values", values, (entries, value_size), key.dtype, alignment)
    require(f"{where}: out", out, (value_size + 1,), np.float32, 4)
    sizes = map(np.int32, (entries, key_size, value_size))
    args = (query, keys, values, out, *sizes, np.float32(sharpness))
    grid = (blocks_for(value_size, THREADS), 1, 1)
    return [Launch(f"memory_attention_{kind}", grid, (THREADS, 1, 1), args, 4 * entries)]


def _sharpness(where: str, entries: int, key_size: int, temperature: float) -> float:
    """Check the numbers, and return what a cosine counts in the exponent of 2."""
    if not 1 <= entries <= MOST_ENTRIES:
        raise KernelError(
            f"{where}: {entries} entries, expected 1 to {MOST_ENTRIES}, as their weights lie in "
            "shared memory; give the bank a smaller capacity"
        )
    if key_size > LONGEST_KEY:
        raise KernelError(f"{where}: keys of {key_size}, expected at most 2**28; shorten them")
    if not temperature > COLDEST:
        raise KernelError(
            f"{where}: a temperature of {temperature}, expected > 0; a small one takes the nearest"
        )
    return math.log2(math.e) / temperature
