"""How group_norm_silu is launched: statistics by slices of a group, then one pass over tiles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lsd.kernels.plans.buffers import Layout, layout_of, require
from lsd.kernels.plans.launch import Launch, blocks_for
from lsd.pipeline.errors import KernelError

STATS_THREADS = 256
THREADS = 128
VECTOR = 4  # elements that a thread takes at once: a quad
MOST_SLICES = 32  # a warp merges them, one a lane
MOST_ROUNDS = 4  # quads a thread of the second launch
ENOUGH_BLOCKS = 1024  # keep a card of 132 multiprocessors full before a thread takes two quads
MOST_BLOCKS = 65535  # along y and z
DTYPES = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}


class Slices(NamedTuple):
    """How a group is cut for the statistics.

    Attributes:
        number: blocks a group, 1 to 32.
        quads: aligned fours of elements that each takes, at most.
    """

    number: int
    quads: int


def slices_of(length: int) -> Slices:
    """Cut a group into slices of at least half a block's threads, none of them empty.

    A group that starts off a multiple of four holds a quad less than `length // 4`; the last
    slice always has more than one.

    Args:
        length: elements of a group, at least 1.
    """
    quads = max(1, length // VECTOR)
    each = blocks_for(quads, min(MOST_SLICES, blocks_for(quads, STATS_THREADS)))
    return Slices(blocks_for(quads, each), each)


def partials_shape(shape: tuple[int, int, int, int], groups: int) -> tuple[int, int, int]:
    """Return the shape of the float32 scratch between the launches.

    Args:
        shape: of x, [B, C, H, W].
        groups: divides C.
    """
    batch, channels, height, width = shape
    length = channels // groups * height * width
    return batch * groups, slices_of(length).number, 4


def plan(
    x: Any, groups: int, scale: Any, shift: Any, partials: Any, out: Any, eps: float = 1e-5
) -> list[Launch]:
    """Plan both launches; they run in order on one stream.

    Args:
        x: float32 or float16 [B, C, H, W], contiguous, aligned to 4 elements.
        groups: divides C.
        scale: float32 [B, C] or [C]; FiLM's gain minus one.
        shift: float32, same shape as `scale`.
        partials: float32 of `partials_shape`, aligned to 16 bytes; overwritten.
        out: same shape and dtype as `x`; may be `x`, and may not overlap it otherwise.
        eps: added to the variance, > 0.

    Raises:
        KernelError: a buffer of another shape, dtype, size or alignment; groups that do not
            divide the channels; more channels, groups or pictures than a grid holds.
    """
    layout = layout_of("kernel 'group_norm_silu': x", x)
    kind = _checked_kind(layout, groups, eps)
    batch, channels, height, width = layout.shape
    for label, buffer in (("x", x), ("out", out)):
        where = f"kernel 'group_norm_silu_{kind}': {label}"
        require(where, buffer, layout.shape, layout.dtype, VECTOR * layout.dtype.itemsize)
    film_stride = _film_stride(f"kernel 'group_norm_silu_{kind}'", scale, shift, batch, channels)
    scratch = partials_shape((batch, channels, height, width), groups)
    require(f"kernel 'group_norm_silu_{kind}': partials", partials, scratch, np.float32, 16)

    plane, per_group = height * width, channels // groups
    length = per_group * plane
    slices = slices_of(length)
    stats = Launch(
        f"group_norm_silu_stats_{kind}",
        (slices.number, batch * groups, 1),
        (STATS_THREADS, 1, 1),
        (x, partials, np.int32(length), np.int32(slices.quads)),
    )
    tile = THREADS * rounds_of(batch * channels * plane)
    values = (
        np.int32(plane),
        np.uint32(groups),
        np.uint32(0xFFFFFFFF // per_group),
        np.uint32(slices.number),
        np.int32(film_stride),
        np.int32(tile),
        np.float32(1.0 / length),
        np.float32(eps),
    )
    apply = Launch(
        f"group_norm_silu_{kind}",
        (blocks_for(plane // VECTOR, tile), channels, batch),
        (THREADS, 1, 1),
        (x, partials, scale, shift, out, *values),
    )
    return [stats, apply]


def rounds_of(elements: int) -> int:
    """Return how many quads a thread takes, so that the card is full first."""
    return min(MOST_ROUNDS, max(1, elements // (VECTOR * THREADS * ENOUGH_BLOCKS)))


def _checked_kind(layout: Layout, groups: int, eps: float) -> str:
    where = "kernel 'group_norm_silu'"
    kind = DTYPES.get(layout.dtype)
    if kind is None or len(layout.shape) != 4:
        raise KernelError(
            f"{where}: x is {layout}, expected float32 or float16 [B, C, H, W]; convert it first"
        )
    batch, channels = layout.shape[:2]
    if groups < 1 or channels % groups:
        raise KernelError(
            f"{where}: {groups} groups, expected a divisor of x's {channels} channels; "
            "change the number of groups"
        )
    if max(batch * groups, channels) > MOST_BLOCKS or channels * (channels // groups) >= 2**31:
        raise KernelError(
            f"{where}: x is {layout} in {groups} groups, expected at most {MOST_BLOCKS} channels "
            "and groups in all, and channels times channels a group below 2**31; split the batch"
        )
    if not eps > 0.0:
        raise KernelError(f"{where}: eps is {eps}, expected > 0; a flat group has no deviation")
    return kind


def _film_stride(where: str, scale: Any, shift: Any, batch: int, channels: int) -> int:
    """Return how far a picture's pair of FiLM lies from the next one's, in elements."""
    is_shared = len(layout_of(f"{where}: scale", scale).shape) == 1
    shape = (channels,) if is_shared else (batch, channels)
    for label, buffer in (("scale", scale), ("shift", shift)):
        require(f"{where}: {label}", buffer, shape, np.float32, 4)
    return 0 if is_shared else channels
