"""Cases of moment_match: tails of rows and columns, grids finer than the picture, clipping, NaN."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from lsd.kernels import reference
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.moment_match import (
    PARTIALS,
    PARTS,
    STATS_THREADS,
    VECTOR,
    WIDEST_GRID,
    control,
    plan,
)
from lsd.lab.ptx.case import Array, Case, fresh
from lsd.lab.ptx.cases.halves import half_unit

OP = "moment_match"
LIMIT = 0.25
CONTRAST = (0.9, 1.1, 1.2)


class Size(NamedTuple):
    """A picture's rows and columns, and the grid's."""

    name: str
    rows: int
    columns: int
    grid_rows: int
    grid_columns: int


SIZES = [
    Size("one pixel", 1, 1, 8, 8),
    Size("odd 7x5", 7, 5, 3, 2),
    Size("one quad", 1, 4, 2, 3),
    Size("ragged 37x41", 37, 41, 8, 8),
    Size("grid of one cell", 33, 36, 1, 1),
    Size("grid finer than the picture", 6, 12, 9, 21),
    Size("more quads than lanes", 6, 132, 4, 4),
    Size("widest grid", 5, 16, 2, WIDEST_GRID),
    Size("large 256x260", 256, 260, 8, 8),
    Size("large 251x257", 251, 257, 8, 8),
]


class Values(NamedTuple):
    """What the device's record holds."""

    contrast: tuple[float, float, float] = CONTRAST
    rate: float = 0.5
    limit: float = LIMIT


def cases() -> list[Case]:
    """Return the cases of all four entries; each runs both launches."""
    found = []
    usual, far = SIZES[4], Values(contrast=(0.2, 1.0, 3.0), rate=1.0)
    for dtype in (np.float32, np.float16):
        found += [_case(size, _picture(size, dtype), Values()) for size in SIZES]
        inside = usual._replace(name="in place")
        found.append(_case(inside, _picture(usual, dtype), Values(), in_place=True))
        off = usual._replace(name="rate 0")
        found.append(_case(off, _picture(usual, dtype), Values(rate=0.0)))
        clipped = SIZES[3]._replace(name="contrast clipped")
        found.append(_case(clipped, _picture(clipped, dtype), far))
        bright = SIZES[5]._replace(name="far from zero")
        found.append(_case(bright, _picture(bright, dtype) + dtype(40.0), far))
        found += _spoiled(dtype)
    return found


def _spoiled(dtype: Any) -> list[Case]:
    """NaN in a channel, in a cell, and in a channel's contrast."""
    size = SIZES[3]
    x = _picture(size, dtype)
    spoiled, shift = x.copy(), _shift(size)
    spoiled[0, 1, 20, 7] = np.nan
    shift[0, 2, 3, 4] = np.nan
    lost = Values(contrast=(1.1, float("nan"), 0.9))
    return [
        _case(size._replace(name="NaN in a channel"), spoiled, Values()),
        _case(size._replace(name="NaN in a cell"), x, Values(), shift=shift),
        _case(size._replace(name="NaN in the contrast"), x, lost),
    ]


def _picture(size: Size, dtype: Any) -> Array:
    draw = np.random.default_rng(size.rows * size.columns)
    shape = (1, 3, size.rows, size.columns)
    return (0.2 + 0.8 * draw.uniform(-1.0, 1.0, shape)).astype(dtype)


def _shift(size: Size) -> Array:
    """Draw a grid, a third of which is beyond the limit."""
    draw = np.random.default_rng(size.grid_rows)
    cells = (1, 3, size.grid_rows, size.grid_columns)
    return draw.uniform(-1.5 * LIMIT, 1.5 * LIMIT, cells).astype(np.float32)


def _case(
    size: Size, x: Array, values: Values, in_place: bool = False, shift: Array | None = None
) -> Case:
    cells = _shift(size) if shift is None else shift

    def build() -> tuple[dict[str, Array], list[Launch]]:
        out = x.copy() if in_place else fresh(x.shape, x.dtype)
        source = out if in_place else x.copy()
        buffers = {"x": source, "grid_shift": cells.copy(), "values": control(*values)}
        buffers |= {"partials": fresh(PARTIALS, np.float32), "out": out}
        given = buffers["grid_shift"], buffers["values"], buffers["partials"]
        return buffers, plan(source, *given, out)

    matched = _expected(x, cells, values).astype(x.dtype)
    sums, sums_error = _partials(x)
    tolerance = 0.0 if values.rate == 0.0 else _tolerance(size, x, matched)
    expected = {"out": matched, "partials": sums}
    return Case(
        OP, f"{size.name} {x.dtype}", build, expected, {"out": tolerance, "partials": sums_error}
    )


def _partials(x: Array) -> tuple[Array, float]:
    """Return the first launch's sums, and how far they may be off.

    In a mean a value that is left out may not show.
    """
    values = x.reshape(3, -1).astype(np.float64)
    place = np.arange(values.shape[1])
    units = place if len(place) % VECTOR else place // VECTOR
    parts = units // STATS_THREADS % PARTS
    sums = np.stack([np.bincount(parts, channel, PARTS) for channel in values])
    largest = float(np.bincount(parts, np.nan_to_num(np.abs(values)).max(0)).max())
    return sums.astype(np.float32), 2.0**-22 * largest


def _expected(x: Array, cells: Array, values: Values) -> Array:
    given = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(cells)
    contrast = torch.tensor(values.contrast)
    if np.isfinite(cells).all():
        matched = reference.moment_match(*given, contrast, values.rate, values.limit)
        return np.asarray(matched.numpy())
    # the reference's products spread a NaN over all cells
    shift = given[1].clamp(-values.limit, values.limit)
    up = F.interpolate(shift, size=x.shape[2:], mode="bilinear", align_corners=False)
    still = reference.moment_match(given[0], 0.0 * shift.nan_to_num(), contrast, *values[1:])
    return np.asarray((still + values.rate * up).numpy())


def _tolerance(size: Size, x: Array, expected: Array) -> float:
    """Bound the error: roundings of the terms, places between the cells, f16's last rounding.

    The reference rounds as often as the kernel.
    """
    largest = float(np.nanmax(np.abs(x.astype(np.float64)), initial=1.0))
    place = 2.0**-21 * max(size.grid_rows, size.grid_columns)
    bound = 2.0**-21 * largest + 2.0 * LIMIT * place
    if x.dtype == np.float16:
        # two sums that differ in float32 may round to neighbours
        bound += half_unit(float(np.nanmax(np.abs(expected.astype(np.float64)), initial=1.0)))
    return bound
