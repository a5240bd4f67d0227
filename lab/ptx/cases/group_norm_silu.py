"""Cases of group_norm_silu: any alignment of groups and planes, slices, hard numbers, NaN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.group_norm_silu import (
    STATS_THREADS,
    VECTOR,
    partials_shape,
    plan,
    slices_of,
)
from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.case import Array, Case, fresh
from lsd.lab.ptx.cases.halves import half_unit

OP = "group_norm_silu"
EPS = 1e-5
Shape = tuple[int, int, int, int]


class Size(NamedTuple):
    """A picture and its groups; FiLM of a batch is shared where `is_shared`."""

    name: str
    shape: Shape
    groups: int
    is_shared: bool = False


SIZES = [
    Size("one element a group", (1, 3, 1, 1), 3),
    Size("planes of one", (2, 8, 1, 1), 2, is_shared=True),
    Size("planes of two, no quad", (1, 6, 1, 2), 3),
    Size("odd 5x7, every alignment", (2, 6, 5, 7), 2, is_shared=True),
    Size("odd 3x3, channels of their own", (2, 5, 3, 3), 5),
    Size("ragged 37x41, several slices", (1, 6, 37, 41), 2),
    Size("64x64", (1, 8, 64, 64), 2),
    Size("large 256x256, pairs of quads", (1, 2, 256, 256), 1),
    Size("large 251x257, two quads a thread", (1, 17, 251, 257), 1),
]


def cases() -> list[Case]:
    """Return the cases of all four entries; each runs both launches."""
    found = []
    for dtype in (np.float32, np.float16):
        for size in SIZES:
            found.append(_case(size, _normal(size.shape, dtype)))
        found.append(
            _case(SIZES[3]._replace(name="in place"), _normal(SIZES[3].shape, dtype), True)
        )
        found += [_case(Size(name, x.shape, groups), x) for name, x, groups in _hard(dtype)]
    return found


def _normal(shape: Shape, dtype: Any, mean: float = 0.5, std: float = 2.0) -> Array:
    draw = np.random.default_rng(math.prod(shape))
    return (mean + std * draw.standard_normal(shape)).astype(dtype)


def _hard(dtype: Any) -> list[tuple[str, Array, int]]:
    """Numbers that a careless sum loses, and those that must spoil their group alone."""
    shape = (1, 4, 33, 65)
    flat = np.full(shape, 1000.0, dtype)
    outlier = _normal(shape, dtype, 0.0, 1.0)
    outlier[0, [0, 2], 0, 0] = 30000.0
    nan, infinite = _normal(shape, dtype), _normal(shape, dtype)
    nan[0, 1, 20, 5] = np.nan
    infinite[0, 3, 32, 64] = -np.inf
    found = [
        ("zero variance", flat, 2),
        ("zero variance, one slice", np.full((1, 2, 8, 8), 1000.0, dtype), 2),
        ("259 quads a slice", _normal((1, 1, 129, 257), dtype, 0.5, 2.0**-5), 1),
        ("mean 1000, deviation 1", _normal(shape, dtype, 1000.0, 1.0), 2),
        ("first element far out", outlier, 2),
        ("tiny values", _normal(shape, dtype, 0.0, 1e-4), 2),
        ("NaN in one group", nan, 2),
        ("infinity in one group", infinite, 4),
    ]
    if dtype == np.float32:
        found.append(("mean 1e5, several slices", _normal((1, 1, 64, 129), dtype, 1e5, 1.0), 1))
        found.append(("values of 1e15", _normal(shape, dtype, 0.0, 1e15), 2))
    else:
        found.append(("f16's largest", np.sign(_normal(shape, dtype)) * dtype(65504.0), 2))
    return found


def _case(size: Size, x: Array, in_place: bool = False) -> Case:
    batch, channels = size.shape[:2]
    draw = np.random.default_rng(channels)
    film_shape = (channels,) if size.is_shared else (batch, channels)
    scale = draw.uniform(-0.5, 0.5, film_shape).astype(np.float32)
    shift = draw.uniform(-1.0, 1.0, film_shape).astype(np.float32)
    scratch = partials_shape(size.shape, size.groups)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        out = x.copy() if in_place else fresh(size.shape, x.dtype)
        source = out if in_place else x.copy()
        partials = fresh(scratch, np.float32)
        buffers = {"x": source, "scale": scale.copy(), "shift": shift.copy()}
        buffers |= {"partials": partials, "out": out}
        film = buffers["scale"], buffers["shift"]
        return buffers, plan(source, size.groups, *film, partials, out, EPS)

    exact = _exact(x, size.groups, scale, shift)
    expected, tolerance = {"out": exact.astype(x.dtype)}, {}
    tolerance["out"] = _tolerance(exact, expected["out"])
    if np.isfinite(x).all():
        expected["partials"], tolerance["partials"] = _moments(x, size.groups)
    return Case(OP, f"{size.name} {x.dtype}", build, expected, tolerance)


def _moments(x: Array, groups: int) -> tuple[Array, float]:
    """Return the partials, and their tolerance.

    What a slice loses hardly shows in f16's results; and the second launch adds a mean's low part
    back, so that only here a wrong split would show.
    """
    rows = x.reshape(len(x) * groups, -1).astype(np.float64)
    slices = [part for at, row in enumerate(rows) for part in _slices(row, at * row.size)]
    count, mean = np.array([(part.size, part.mean()) for part in slices]).T
    spread = np.array([((part - part.mean()) ** 2).sum() for part in slices])
    low = mean - mean.astype(np.float32)
    # the kernel's own bound: 2^-22 times a thread's elements, which are its quads' and one edge
    elements = VECTOR * math.ceil(slices_of(rows.shape[1]).quads / STATS_THREADS) + 1
    unit = float(np.spacing(np.float32(np.abs(mean).max())))  # a mean may become either neighbour
    bound = 2.0**-22 * elements * (1.0 + float(spread.max())) + unit
    partials = np.stack([count, mean, spread, low], 1).astype(np.float32)
    return partials.reshape(len(rows), -1, 4), bound


def _slices(row: Array, at: int) -> Iterator[Array]:
    """Cut a group as the kernel does: quads, and to the first slice what lies before and after.

    Args:
        row: the group's elements.
        at: index of the first one in x.
    """
    head = min(-at % VECTOR, row.size)
    quads = (row.size - head) // VECTOR
    whole = row[head : head + VECTOR * quads]
    edges = np.concatenate([row[:head], row[head + whole.size :]])
    number, each = slices_of(row.size)
    for index in range(number):
        part = whole[VECTOR * each * index : VECTOR * each * (index + 1)]
        yield part if index else np.concatenate([edges, part])


def _exact(x: Array, groups: int, scale: Array, shift: Array) -> Array:
    """Return the reference's result in float64."""
    wide = [torch.from_numpy(part.astype(np.float64)) for part in (x, scale, shift)]
    if x[0].size == groups and len(x) == 1:
        # torch refuses groups of one element in a batch of one; they are their own mean
        wide = [torch.cat([part, part]) for part in wide]
    result = reference.group_norm_silu(wide[0], groups, wide[1], wide[2], EPS)
    return np.asarray(result[: len(x)].numpy())


def _tolerance(exact: Array, expected: Array) -> float:
    """Bound the error: a few units of the largest value, and f16's last rounding.

    The gain's approximations, sums and SiLU's own come to less than 2**-20 of it.
    """
    largest = float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0))
    bound = 2.0**-20 * (1.0 + largest)
    if expected.dtype == np.float16:
        # two results that differ in float32 may round to neighbours
        bound += half_unit(largest)
    return bound
