"""Cases of frame_stats: tiles and tails, edges of the bins, one colour, and every kind of bad."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.frame_stats import COUNTS, WORDS, partials_shape, plan
from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.case import Array, Case, fresh

OP = "frame_stats"
SIZES = [
    ("one pixel", 1, 1),
    ("one quad", 1, 4),
    ("two rows, no inner pixel", 2, 8),
    ("odd 5x7", 5, 7),
    ("three columns", 9, 3),
    ("ragged 37x41", 37, 41),
    ("ragged, two tiles", 19, 131),
    ("a tile and a quad", 11, 132),
    ("large 256x256", 256, 256),
    ("large 779x260, three rows a warp", 779, 260),
    ("large 263x501, two rows a warp", 263, 501),
]


def cases() -> list[Case]:
    """Return the cases of all three entries; each runs both launches."""
    found = []
    for dtype in (np.float32, np.float16):
        for name, rows, columns in SIZES:
            found.append(_case(name, _picture(rows, columns, dtype)))
        for rows, columns in ((24, 140), (13, 37)):
            label = f"{rows}x{columns}"
            found += [_case(f"{name} {label}", x) for name, x in _hard(rows, columns, dtype)]
            found += [_case(f"{name} {label}", x) for name, x in _bad(rows, columns, dtype)]
    return found


def _picture(rows: int, columns: int, dtype: Any) -> Array:
    draw = np.random.default_rng(rows * columns)
    x = 0.1 + 0.6 * draw.standard_normal((1, 3, rows, columns))
    return x.astype(dtype)


def _hard(rows: int, columns: int, dtype: Any) -> list[tuple[str, Array]]:
    """Colours at the edges of bins, and moments that a careless sum loses."""
    shape = (1, 3, rows, columns)
    draw = np.random.default_rng(columns)
    edges = np.repeat(np.linspace(-1.5, 1.5, 13), 3).astype(dtype)
    edges[0::3] = np.nextafter(edges[0::3], dtype(-9.0))
    edges[2::3] = np.nextafter(edges[2::3], dtype(9.0))
    outlier = _picture(rows, columns, dtype) * dtype(0.01)
    outlier[0, 0, 0, 0] = 30.0
    wild = _picture(rows, columns, dtype) * dtype(1e4)
    wild[0, 1, rows // 2, columns // 2] = -60000.0
    found = [
        ("edges of bins", draw.choice(edges, shape)),
        ("one colour", np.full(shape, 0.95, dtype)),
        ("first value far out", outlier),
        ("large values", wild),
    ]
    if dtype == np.float32:
        # what is not bad, but must be looked at slowly
        huge = _picture(rows, columns, dtype)
        huge[0, 2, 5, 6] = 9e14
        found.append(("almost bad", huge))
        found.append(("values of 1e12", _picture(rows, columns, dtype) * dtype(1e12)))
    return found


def _bad(rows: int, columns: int, dtype: Any) -> list[tuple[str, Array]]:
    """One bad value of each kind, in every place of a quad, at the edges, at the start, all."""
    usual = _picture(rows, columns, dtype)
    found = []
    kinds = [("NaN", math.nan), ("infinity", math.inf), ("-infinity", -math.inf)]
    if dtype == np.float32:
        kinds += [("1e15", 1e15), ("-3e38", -3e38)]
    for i, (name, value) in enumerate(kinds):
        x = usual.copy()
        x[0, i % 3, 9, 8 + i] = value
        found.append((f"{name} inside", x))
    corners, start = usual.copy(), usual.copy()
    corners[0, 0, 0, -1] = corners[0, 1, -1, 0] = corners[0, 2, -1, -1] = math.inf
    start[0, :, 0, 0] = math.nan
    cancel = usual.copy()
    cancel[0, 0, 4, 4], cancel[0, 0, 4, 5] = math.inf, -math.inf
    found += [
        ("infinity in the corners", corners),
        ("NaN at the start", start),
        ("infinities that cancel", cancel),
        ("nothing but NaN", np.full_like(usual, math.nan)),
    ]
    return found


def _case(name: str, x: Array) -> Case:
    records = partials_shape(*x.shape[2:])

    def build() -> tuple[dict[str, Array], list[Launch]]:
        picture, partials = x.copy(), fresh(records, np.float32)
        counts, stats = np.zeros(COUNTS, np.uint32), fresh(WORDS, np.uint32)
        buffers = {"x": picture, "partials": partials, "counts": counts, "stats": stats}
        # the words by kind: views of one buffer
        moments = stats.view(np.float32)
        buffers |= {"mean": moments[:1], "std": moments[1:2], "laplacian": moments[3:4]}
        buffers |= {"bad": stats[2:3], "histogram": stats[4:]}
        return buffers, plan(picture, partials, counts, stats)

    found = reference.picture_stats(torch.from_numpy(x))
    expected = {
        "mean": np.array([found.mean], np.float32),
        "std": np.array([found.std], np.float32),
        "laplacian": np.array([found.laplacian], np.float32),
        "bad": np.array([found.bad], np.uint32),
        "histogram": found.histogram.numpy().astype(np.uint32),
        "counts": np.zeros(COUNTS, np.uint32),
    }
    return Case(OP, f"{name} {x.dtype}", build, expected, _tolerance(x, found))


def _tolerance(x: Array, found: reference.PictureStats) -> dict[str, float]:
    """Bound the errors: sums from a tile's first value lose a few units of what is farthest.

    A picture of one colour has no deviation at all.
    """
    good = np.abs(x[np.abs(x.astype(np.float64)) < 1e15].astype(np.float64))
    span = float(np.ptp(x.astype(np.float64))) if found.bad == 0 else 0.0
    largest = float(good.max(initial=0.0))
    return {
        "mean": 2.0**-22 * span + 2.0**-23 * largest,
        "std": 2.0**-20 * span,
        "laplacian": 2.0**-20 * found.laplacian,
    }
