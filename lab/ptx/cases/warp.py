"""Cases of warp: one channel to five, flows that leave the picture, NaN."""

from __future__ import annotations

from typing import Any

import numpy as np

from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.warp import plan
from lsd.lab.ptx.case import Array, Case, fresh
from lsd.lab.ptx.cases.temporal_blend import bad_flow, fetched, smooth_flow

OP = "warp"
_SIZES = ((1, 1), (3, 5), (9, 33), (8, 32), (64, 131), (256, 256))
# places are rounded as the kernel rounds them, and for bytes the mixes too
_ERROR = {np.float32: 1e-6, np.uint8: 0.0}


def cases() -> list[Case]:
    """Return the cases of both entries."""
    found = []
    for size in _SIZES:
        flow = smooth_flow(size, 3.0)
        for channels in (1, 3, 4, 5):
            found.append(_case(f"{size[0]}x{size[1]}x{channels}", _floats(size, channels), flow))
        found.append(_case(f"{size[0]}x{size[1]}x4", _bytes(size), flow))
    for picture in (_floats((24, 40), 3), _bytes((24, 40))):
        found.append(_case("out of the picture", picture, smooth_flow((24, 40), 60.0)))
        still = np.zeros((1, 24, 40, 2), np.float32)
        found.append(_case("at rest", picture, still, exact=True))
    for picture in (_floats((5, 8), 4), _bytes((5, 8))):
        found.append(_case("bad flow", picture, bad_flow((5, 8))))
    return found


def _floats(size: tuple[int, int], channels: int) -> Array:
    draw = np.random.default_rng(size[1])
    return draw.uniform(-1.2, 1.2, (1, channels, *size)).astype(np.float32)


def _bytes(size: tuple[int, int]) -> Array:
    return np.random.default_rng(size[1]).integers(0, 256, (1, *size, 4), np.uint8)


def _case(name: str, picture: Array, flow: Array, exact: bool = False) -> Case:
    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"picture": picture.copy(), "flow": flow.copy()}
        buffers["out"] = fresh(picture.shape, picture.dtype)
        return buffers, plan(buffers["picture"], buffers["flow"], buffers["out"])

    kind: Any = picture.dtype.type
    planes = picture[0] if kind is np.float32 else picture[0].transpose(2, 0, 1)
    found = fetched(planes.astype(np.float64), flow[0], rounded=kind is np.uint8)
    expected = found if kind is np.float32 else np.rint(found).transpose(1, 2, 0)
    tolerance = 0.0 if exact else _ERROR[kind]
    label = f"{name} {picture.dtype}"
    return Case(OP, label, build, {"out": expected[None].astype(kind)}, {"out": tolerance})
