"""Cases of frame_to_tensor: every byte, every alignment of a row, both orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.frame_to_tensor import plan, plan_nv12, plan_scaled
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.pixels import Order
from lsd.lab.ptx.case import Array, Case, fresh

OP = "frame_to_tensor"
_SIZES = ((1, 1, 1), (1, 3, 5), (2, 7, 4), (2, 5, 131), (2, 6, 128), (1, 256, 256))
# of pixels, to the size of the planes: enlarged, shrunk by whole and broken steps, both at once
_SCALINGS = (
    ((1, 1, 1), (1, 1)),
    ((1, 2, 3), (5, 4)),
    ((2, 4, 8), (7, 33)),
    ((1, 64, 64), (96, 160)),
    ((1, 6, 40), (9, 20)),
    ((1, 9, 2), (12, 5)),  # higher than wide
    ((2, 8, 12), (4, 4)),
    ((1, 480, 640), (256, 256)),
    ((1, 7, 66), (3, 35)),
    ((1, 14, 22), (13, 21)),  # steps that round up: the last boxes would end beyond the picture
)
_SCALED_ERROR = 1e-5  # of places among up to 640 pixels, times the contrast of neighbours
_NV12_ERROR = 1e-6
_ERROR = {np.float32: 1.2e-7, np.float16: 4.9e-4}  # of float16 a unit next to 1: both may round


def cases() -> list[Case]:
    """Return the cases of all entries."""
    found = []
    for dtype in (np.float32, np.float16):
        for batch, height, width in _SIZES:
            found.append(_same(f"{batch}x{height}x{width}", (batch, height, width), dtype))
        found.append(_same("BGR", (1, 5, 8), dtype, "bgr"))
        found.append(_same("BGR, rows padded to words", (1, 5, 8), dtype, "bgr", 32))
        found.append(_same("rows padded to no word", (1, 5, 8), dtype, "rgb", 27))
        for source, size in _SCALINGS:
            label = f"{source[1]}x{source[2]} to {size[0]}x{size[1]}"
            found.append(_scaled(label, source, size, dtype))
        found.append(_scaled("BGR, scaled", (1, 6, 7), (9, 5), dtype, "bgr"))
        found.append(_scaled("BGR, shrunk", (1, 16, 9), (4, 5), dtype, "bgr"))
    found += [_nv12(4, 2, 4), _nv12(132, 6, 136), _nv12(256, 256, 256)]
    return found


def _same(
    name: str,
    shape: tuple[int, int, int],
    dtype: Any,
    order: Order = "rgb",
    pitch: int | None = None,
) -> Case:
    batch, height, width = shape
    pixels = padded(picture(batch, height, width), pitch or 3 * width)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"pixels": pixels.copy(), "out": fresh((batch, 3, height, width), dtype)}
        return buffers, plan(buffers["pixels"], buffers["out"], order)

    seen = picture(batch, height, width)
    rgb = np.ascontiguousarray(seen if order == "rgb" else seen[..., ::-1])
    expected = reference.frame_to_tensor(torch.from_numpy(rgb)).numpy().astype(dtype)
    label = f"{name} {np.dtype(dtype)}"
    return Case(OP, label, build, {"out": expected}, {"out": _ERROR[dtype]})


def _scaled(
    name: str,
    source: tuple[int, int, int],
    size: tuple[int, int],
    dtype: Any,
    order: Order = "rgb",
) -> Case:
    batch, rows, columns = source
    pixels = picture(batch, rows, columns)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"pixels": pixels.copy(), "out": fresh((batch, 3, *size), dtype)}
        return buffers, plan_scaled(buffers["pixels"], buffers["out"], order)

    shrinks = rows >= size[0] and columns >= size[1]
    weights = box_weights if shrinks else linear_weights
    seen = pixels if order == "rgb" else pixels[..., ::-1]
    down, across = weights(rows, size[0]), weights(columns, size[1])
    scaled = np.einsum("yr,brsc,xs->bcyx", down, seen.astype(float), across, optimize=True)
    expected = (scaled / 127.5 - 1.0).astype(dtype)
    tolerance = _SCALED_ERROR + (4.9e-4 if dtype is np.float16 else 0.0)
    return Case(OP, f"{name} {np.dtype(dtype)}", build, {"out": expected}, {"out": tolerance})


def linear_weights(cells: int, count: int) -> Array:
    """Return what each of `cells` pixels gives to `count`, float64 [count, cells], bilinear."""
    where = np.clip((np.arange(count) + 0.5) * cells / count - 0.5, 0, cells - 1)
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(where[:, None] - np.arange(cells))))


def box_weights(cells: int, count: int) -> Array:
    """Return what each of `cells` pixels gives to `count`, float64 [count, cells], by area."""
    begin = np.arange(count)[:, None] * cells / count
    pixel = np.arange(cells)
    covered = np.minimum(pixel + 1, begin + cells / count) - np.maximum(pixel, begin)
    return np.asarray(np.maximum(0.0, covered) * count / cells)


def _nv12(width: int, height: int, pitch: int) -> Case:
    draw = np.random.default_rng(width)
    luma = draw.integers(0, 256, (height, pitch), np.uint8)
    chroma = draw.integers(0, 256, (height // 2, pitch), np.uint8)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"luma": luma.copy(), "chroma": chroma.copy()}
        buffers["out"] = fresh((1, 3, height, width), np.float32)
        return buffers, plan_nv12(*buffers.values())

    y = 1.164383 * (luma[:, :width] - 16.0)
    large = chroma.repeat(2, 0)
    u, v = (large[:, i:width:2].repeat(2, 1) - 128.0 for i in (0, 1))
    rgb = np.stack([y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u])
    expected = np.clip(rgb / 127.5 - 1.0, -1.0, 1.0)[None].astype(np.float32)
    name = f"NV12 {height}x{width}, rows of {pitch}"
    return Case(OP, name, build, {"out": expected}, {"out": _NV12_ERROR})


def picture(batch: int, height: int, width: int) -> Array:
    """Return pixels, uint8 [B, H, W, 3], with every byte among them where there is room."""
    draw = np.random.default_rng(height * width)
    pixels = draw.integers(0, 256, batch * height * width * 3, np.uint8)
    count = min(256, pixels.size)
    pixels[:count] = np.arange(count)
    return pixels.reshape(batch, height, width, 3)


def padded(pixels: Array, pitch: int) -> Array:
    """Return pixels with rows of `pitch` bytes, uint8 [B, H, pitch]; the padding is 0xA5."""
    batch, height, width, _ = pixels.shape
    rows = fresh((batch, height, pitch), np.uint8)
    rows[:, :, : 3 * width] = pixels.reshape(batch, height, 3 * width)
    return rows
