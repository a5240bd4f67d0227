"""Cases of guard: every reason and its edge, sizes whole and ragged, any bits in the pictures.

The picture that is not shown is a buffer that nobody has written, so that to read it is a fault.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lsd.kernels.plans.frame_stats import STATS
from lsd.kernels.plans.guard import VERDICT, limits, plan
from lsd.kernels.plans.launch import Launch
from lsd.lab.ptx.case import Array, Case, fresh

OP = "guard"
_BITS = {np.float32: np.uint32, np.float16: np.uint16}
# one, less than 16 bytes, whole, ragged, blocks and a ragged end, large
_SHAPES = ((1,), (1, 3, 1, 1), (1, 3, 2, 4), (1, 3, 5, 7), (1, 3, 19, 131), (1, 3, 256, 256))


class Found(NamedTuple):
    """What was measured and what is allowed, and the code that follows."""

    name: str
    code: int
    mean: float = 0.1
    std: float = 0.4
    bad: int = 0
    last: float | None = 0.2  # mean of the last output
    flat: float = 0.02
    jump: float = 0.35


_ABOVE = float(np.nextafter(np.float32(0.5), np.float32(1.0)))
_FINE, _FLAT = Found("fine", 0), Found("collapsed", 2, std=0.01)
_FOUND = (
    _FINE,
    _FLAT,
    Found("without a last output", 0, mean=0.9, last=None),
    Found("dark, without a last output", 0, mean=-0.9, last=None),
    Found("not finite", 1, mean=math.nan, std=math.nan, bad=3),
    Found("one bad value", 1, bad=1),
    Found("nothing but bad values", 1, bad=2**31),
    Found("std at the limit", 0, std=0.25, flat=0.25),
    Found("one colour, as it may be", 0, std=0.0, flat=0.0),
    Found("brighter", 3, mean=0.6),
    Found("darker", 3, mean=-0.6),
    Found("distance at the limit", 0, mean=0.5, last=0.25, jump=0.25),
    Found("distance above the limit", 3, mean=_ABOVE, last=0.25, jump=0.25),
    Found("far, as it may be", 0, mean=0.9, last=-0.9, jump=math.inf),
    Found("last mean unknown", 0, last=math.nan),
    Found("mean unknown", 0, mean=math.nan),
    Found("collapsed and far", 2, mean=0.9, std=0.01),
    Found("bad, collapsed and far", 1, mean=0.9, std=0.01, bad=1),
)


def cases() -> list[Case]:
    """Return the cases of both entries."""
    found = []
    for dtype in (np.float32, np.float16):
        for shape in _SHAPES:
            size = "x".join(map(str, shape))
            found += [_case(f"{each.name} {size}", each, shape, dtype) for each in (_FINE, _FLAT)]
        for each in _FOUND[2:]:
            found.append(_case(each.name, each, (1, 3, 4, 11), dtype))
        for each in (_FINE, _FLAT):
            found.append(_case(f"{each.name}, off 16 bytes", each, (1, 3, 5, 7), dtype, skip=1))
    return found


def _case(name: str, found: Found, shape: tuple[int, ...], dtype: Any, skip: int = 0) -> Case:
    """Lay the pictures so many values behind the start of an allocation."""
    count = math.prod(shape)
    bits = np.random.default_rng(count).integers(0, 2**32, count, np.uint32).astype(_BITS[dtype])

    def build() -> tuple[dict[str, Array], list[Launch]]:
        whole = np.concatenate([np.zeros(skip, _BITS[dtype]), bits]).view(dtype)
        shown, hidden, out = (
            each[skip:].reshape(shape)
            for each in (whole, fresh(skip + count, dtype), fresh(skip + count, dtype))
        )
        x, good = (hidden, shown) if found.code else (shown, hidden)
        buffers = {"x": x, "good": good, "stats": _words(found.mean, found.std, found.bad)}
        if found.last is not None:
            buffers["last"] = _words(found.last, 0.5, 0)
        buffers |= {"limits": limits(found.flat, found.jump), "out": out}
        buffers["verdict"] = fresh(VERDICT, np.uint32)
        names = ("x", "good", "stats", "last", "limits", "out", "verdict")
        planned = plan(*(buffers.get(each) for each in names))
        # as numbers, so that of a NaN every bit is compared
        return buffers | {"bits": out.reshape(-1).view(_BITS[dtype])}, planned

    expected = {"bits": bits, "verdict": np.array([found.code, 0, 0, 0], np.uint32)}
    return Case(OP, f"{name} {np.dtype(dtype)}", build, expected)


def _words(mean: float, std: float, bad: int) -> Array:
    words = np.zeros(1, STATS)
    words["mean"], words["std"], words["bad"], words["laplacian"] = mean, std, bad, 0.01
    return words.view(np.uint32)
