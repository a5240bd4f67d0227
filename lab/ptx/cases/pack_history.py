"""Cases of pack_history: whole fours and ragged ends, buffers off their words, bad values."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.pack_history import plan
from lsd.lab.ptx.case import Array, Case, fresh
from lsd.lab.ptx.cases.frame_to_tensor import picture as pixels

OP = "pack_history"
# one, odd, whole blocks, a block and some fours, a block and a ragged end, large
_SIZES = ((1, 1), (3, 5), (1, 4), (4, 128), (4, 131), (7, 77), (256, 256))


def cases() -> list[Case]:
    """Return the cases of both entries."""
    found = []
    for dtype in (np.float32, np.float16):
        for height, width in _SIZES:
            found.append(_case(f"{height}x{width}", *_drawn(height, width, dtype)))
        found.append(_case("bad values", _bad(dtype), pixels(1, 2, 8)))
        x, source = _drawn(4, 6, dtype)
        found.append(_case("source at no word", x, source, source_skip=1))
        found.append(_case("out at no four words", x, source, out_skip=4))
    found.append(_case("ties", _ties(), pixels(1, 1, 256)))
    ends = np.array(list(itertools.product((0, 1, 127, 128, 254, 255), repeat=3)), np.uint8)
    ends = ends.reshape(1, 6, 36, 3)
    found.append(_case("ends of bytes", _drawn(6, 36, np.float32)[0], ends))
    return found


def _drawn(height: int, width: int, dtype: Any) -> tuple[Array, Array]:
    """Return planes with some values out of range, and a source."""
    draw = np.random.default_rng(height * width)
    x = draw.uniform(-1.3, 1.3, (1, 3, height, width)).astype(dtype)
    return x, pixels(1, height, width)


def _bad(dtype: Any) -> Array:
    x, _ = _drawn(2, 8, dtype)
    x[0, :, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    x[0, 0, 1, 4:] = np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).tiny, 1.0
    return x


def _ties() -> Array:
    """Return values whose sums end at or next to one half."""
    middles = ((np.arange(256, dtype=np.float64) + 0.5) / 127.5 - 1.0).astype(np.float32)
    above, below = np.nextafter(middles, np.float32(2)), np.nextafter(middles, np.float32(-2))
    return np.stack([middles, above, below])[None, :, None, :]


def _case(name: str, x: Array, source: Array, source_skip: int = 0, out_skip: int = 0) -> Case:
    """Lay `source` and `out` so many bytes behind the start of an allocation."""
    shape = (*source.shape[:3], 4)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        given = np.concatenate([np.zeros(source_skip, np.uint8), source.reshape(-1)])
        whole = fresh(out_skip + int(np.prod(shape)), np.uint8)
        buffers = {"x": x.copy(), "source": given[source_skip:].reshape(source.shape)}
        buffers["out"] = whole[out_skip:].reshape(shape)
        return buffers, plan(buffers["x"], buffers["source"], buffers["out"])

    # of NaN the twin makes what the processor's conversion gives
    clean = np.nan_to_num(x.astype(np.float32), nan=-1.0, posinf=2.0, neginf=-2.0)
    twin = reference.pack_history(torch.from_numpy(clean), torch.from_numpy(source.copy()))
    return Case(OP, f"{name} {x.dtype}", build, {"out": twin.numpy()}, {"out": 0.0})
