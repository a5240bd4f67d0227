"""Cases of tensor_to_frame: every alignment of a row, ties, values out of range, NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.pixels import Order
from lsd.kernels.plans.tensor_to_frame import plan, plan_nv12
from lsd.lab.ptx.case import Array, Case, fresh

OP = "tensor_to_frame"
_SIZES = (
    (1, 1, 1, 1),
    (1, 1, 3, 5),
    (1, 2, 7, 4),
    (2, 1, 5, 131),
    (2, 1, 6, 128),
    (1, 1, 256, 256),
)


def cases() -> list[Case]:
    """Return the cases of both entries."""
    found = []
    for dtype in (np.float32, np.float16):
        for batch, _, height, width in _SIZES:
            x = _picture(batch, height, width, dtype)
            found.append(_case(f"{batch}x{height}x{width}", x, "rgb", 3 * width))
        x = _picture(1, 5, 8, dtype)
        found.append(_case("BGR", x, "bgr", 24))
        found.append(_case("BGR, rows padded to words", x, "bgr", 32))
        found.append(_case("rows padded to no word", x, "rgb", 27))
        found.append(_case("bad values", _bad(dtype), "rgb", 24))
    found.append(_case("ties", _ties(), "rgb", 3 * 256))
    for height, width, pitch in ((2, 4, 4), (6, 132, 136), (256, 256, 256)):
        x = _picture(1, height, width, np.float32)
        found.append(_nv12(f"NV12 {height}x{width}, rows of {pitch}", x, pitch))
    found.append(_nv12("NV12, bad values", _bad(np.float32), 8))
    return found


def _picture(batch: int, height: int, width: int, dtype: Any) -> Array:
    """Random values, some of them out of range."""
    draw = np.random.default_rng(height * width)
    return draw.uniform(-1.3, 1.3, (batch, 3, height, width)).astype(dtype)


def _bad(dtype: Any) -> Array:
    x = _picture(1, 2, 8, dtype)
    x[0, :, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    x[0, 0, 1, 4:] = np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).tiny, 1.0
    return x


def _ties() -> Array:
    """Values whose sums end at or next to one half."""
    middles = (np.arange(256, dtype=np.float64) + 0.5) / 127.5 - 1.0
    near = middles.astype(np.float32)
    above, below = np.nextafter(near, np.float32(2)), np.nextafter(near, np.float32(-2))
    return np.stack([near, above, below])[None, :, None, :]


def _case(name: str, x: Array, order: Order, pitch: int) -> Case:
    batch, _, height, width = x.shape

    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"x": x.copy(), "out": fresh((batch, height, pitch), np.uint8)}
        return buffers, plan(buffers["x"], buffers["out"], order)

    clean = np.nan_to_num(x.astype(np.float32), nan=-1.0, posinf=2.0, neginf=-2.0)
    pixels = reference.tensor_to_frame(torch.from_numpy(clean)).numpy()
    expected = fresh((batch, height, pitch), np.uint8)
    rows = pixels if order == "rgb" else pixels[..., ::-1]
    expected[:, :, : 3 * width] = rows.reshape(batch, height, 3 * width)
    return Case(OP, f"{name} {x.dtype}", build, {"out": expected}, {"out": 0.0})


def _nv12(name: str, x: Array, pitch: int) -> Case:
    _, _, height, width = x.shape

    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"x": x.copy(), "luma": fresh((height, pitch), np.uint8)}
        buffers["chroma"] = fresh((height // 2, pitch), np.uint8)
        return buffers, plan_nv12(*buffers.values())

    planes = np.clip(np.nan_to_num(x[0], nan=-1.0, posinf=1.0, neginf=-1.0), -1.0, 1.0)
    luma, chroma = fresh((height, pitch), np.uint8), fresh((height // 2, pitch), np.uint8)
    luma[:, :width] = _rounded(planes, (32.7405, 64.2765, 12.483), 125.5)
    pairs = planes[..., ::2] + planes[..., 1::2]
    sums = pairs[:, ::2] + pairs[:, 1::2]
    for first, weights in enumerate(((-18.8985, -37.1015, 56.0), (56.0, -46.893, -9.107))):
        quarters = tuple(weight / 4 for weight in weights)
        chroma[:, first:width:2] = _rounded(sums, quarters, 128.0)
    return Case(OP, name, build, {"luma": luma, "chroma": chroma}, {"luma": 0.0, "chroma": 0.0})


def _rounded(planes: Array, weights: tuple[float, ...], bias: float) -> Array:
    """Weigh float32 planes as the kernel does, by fused steps that round to float32; uint8."""
    total = np.full(planes.shape[1:], bias, np.float32)
    for plane, weight in zip(planes, weights, strict=True):
        fused = plane.astype(np.float64) * float(np.float32(weight)) + total
        total = fused.astype(np.float32)
    return np.clip(np.rint(total), 0, 255).astype(np.uint8)
