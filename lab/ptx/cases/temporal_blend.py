"""Cases of temporal_blend: sizes of picture and weight, NaN, caps, flows that leave the picture."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from lsd.kernels import reference
from lsd.kernels.plans.launch import Launch
from lsd.kernels.plans.temporal_blend import plan, plan_warp, settings
from lsd.lab.ptx.case import Array, Case, fresh
from lsd.lab.ptx.cases.halves import half_unit

OP = "temporal_blend"
_ERROR = 3e-6  # roundings of values up to 1.4, and of a place among up to 256 cells
_FETCH_ERROR = 5e-6  # and of the fetch; places are rounded as the kernel rounds them
_MOST = 0.85


class Given(NamedTuple):
    """What goes in: pictures [1, 3, H, W], weight [1, 1, h, w], amount."""

    previous: Array
    current: Array
    weight: Array
    amount: float = 1.0


def cases() -> list[Case]:
    """Return the cases of all entries."""
    found = []
    for dtype in (np.float32, np.float16):
        for size, cells in _SIZES:
            given = _given(size, cells, dtype)
            label = f"{size[0]}x{size[1]}, weight {cells[0]}x{cells[1]}"
            found.append(_plain(label, given))
            found.append(_warped(f"warped {label}", given, smooth_flow(size, 3.0)))
        found.append(_plain("bad values", _bad(dtype)))
        found.append(_plain("bad values, one by one", _bad(dtype, 7)))
        found.append(_plain("capped, in place", _given((8, 8), (2, 2), dtype, 3.0), in_place=True))
        given = _given((24, 40), (6, 10), dtype)
        found.append(_warped("out of the picture", given, smooth_flow((24, 40), 60.0)))
        found.append(_warped("bad values, warped", _bad(dtype), bad_flow((5, 8))))
        back = -smooth_flow((24, 40), 3.0) + smooth_flow((24, 40), 1.2, key=5)
        found.append(_warped("occluded", given, smooth_flow((24, 40), 3.0), back))
        found.append(_warped("occluded, long flows", given, *_long_flows((24, 40))))
        for width in (16, 13):
            found.append(_plain("no past is sound", _bad_past(width, dtype)))
        half = np.full((1, 5, 8, 2), 0.5, np.float32)
        found.append(_warped("infinity half a pixel away", _infinity(dtype), half))
    return found


_SIZES = (
    ((1, 1), (1, 1)),
    ((3, 5), (3, 5)),
    ((5, 7), (2, 3)),
    ((4, 8), (4, 8)),
    ((7, 132), (7, 132)),
    ((6, 131), (2, 33)),
    ((6, 16), (5, 13)),  # of a thread's pixels no two lie between the same cells
    ((7, 13), (5, 9)),
    ((9, 64), (2, 3)),  # a thread's pixels all lie before the first cell's centre
    ((256, 256), (64, 64)),
)


def _given(size: tuple[int, int], cells: tuple[int, int], dtype: Any, amount: float = 0.9) -> Given:
    draw = np.random.default_rng(size[0] * size[1])
    previous, current = draw.uniform(-1.2, 1.2, (2, 1, 3, *size)).astype(dtype)
    weight = draw.uniform(-0.1, 1.1, (1, 1, *cells)).astype(np.float32)
    return Given(previous, current, weight, amount)


def _bad(dtype: Any, width: int = 8) -> Given:
    given = _given((5, width), (5, width), dtype)
    given.previous[0, :, 0, 1:4] = np.nan, np.inf, -np.inf
    given.previous[0, 1, 4, 6] = np.nan
    given.current[0, 0, 2, 2] = np.nan
    given.weight[0, 0, 0, 0] = np.nan  # elsewhere it would be its neighbours' as well
    return given


def _bad_past(width: int, dtype: Any) -> Given:
    """The past is bad in every plane and lane, or in every other one, and would weigh."""
    given = _given((5, width), (5, width), dtype)
    for row, bad in enumerate((np.nan, np.inf, -np.inf)):
        given.previous[0, :, row] = bad
    given.previous[0, :, 3, ::2] = np.nan
    given.previous[0, :, 4, 1::2] = np.nan
    return given._replace(weight=0.4 + 0.3 * np.abs(given.weight))


def _infinity(dtype: Any) -> Given:
    """One infinity in each plane, which the mixes of the pixel before it keep."""
    given = _given((5, 8), (5, 8), dtype)
    given.previous[0, :, 2, 3] = np.inf
    return given._replace(weight=0.4 + 0.3 * np.abs(given.weight))


def _long_flows(size: tuple[int, int]) -> tuple[Array, Array]:
    """Two flows so long, and apart by so much, that every part of the bound decides somewhere."""
    draw = np.random.default_rng(11)
    flow = np.broadcast_to(np.array([-9.0, 9.0], np.float32), (1, *size, 2)).copy()
    return flow, -flow + draw.uniform(0.2, 0.85, flow.shape).astype(np.float32)


def smooth_flow(size: tuple[int, int], pixels: float, key: int = 3) -> Array:
    """Return a smooth flow and a few jumps in it, float32 [1, H, W, 2]."""
    draw = np.random.default_rng(key)
    y, x = np.indices(size, np.float32)
    waves = [np.sin(0.07 * x + 0.11 * y + phase) for phase in (0.3, 2.0)]
    flow = (pixels * np.stack(waves, -1)).astype(np.float32)
    flow[draw.random(size) < 0.05] += 2.5
    return flow[None]


def bad_flow(size: tuple[int, int]) -> Array:
    flow = smooth_flow(size, 1.0)
    flow[0, 1, 1:4, 0] = np.nan, np.inf, -np.inf
    flow[0, 2, 3, 1] = np.nan
    return flow


def _plain(name: str, given: Given, in_place: bool = False) -> Case:
    values = settings(given.amount, _MOST)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        current = given.current.copy()
        out = current if in_place else fresh(current.shape, current.dtype)
        buffers = {"previous": given.previous.copy(), "current": current, "out": out}
        buffers |= {"weight": given.weight.copy(), "settings": values.copy()}
        launches = plan(buffers["previous"], current, buffers["weight"], buffers["settings"], out)
        return buffers, launches

    expected = _mixed(given.previous.astype(np.float32), given, given.weight)
    return _case(name, build, expected, given, _ERROR)


def _warped(name: str, given: Given, flow: Array, backward: Array | None = None) -> Case:
    values = settings(given.amount, _MOST)

    def build() -> tuple[dict[str, Array], list[Launch]]:
        buffers = {"previous": given.previous.copy(), "current": given.current.copy()}
        buffers |= {"weight": given.weight.copy(), "settings": values.copy(), "flow": flow.copy()}
        buffers["out"] = fresh(given.current.shape, given.current.dtype)
        back = None if backward is None else backward.copy()
        launches = plan_warp(
            buffers["previous"], buffers["current"], buffers["weight"], buffers["flow"], back,
            buffers["settings"], buffers["out"],
        )  # fmt: skip
        return buffers, launches

    weight = given.weight
    if backward is not None:
        weight = enlarged(weight, flow.shape[1:3]) * ~occluded(flow, backward)
    past = fetched(given.previous[0].astype(np.float64), flow[0])[None].astype(np.float32)
    expected = _mixed(past, given, weight)
    return _case(f"{name}, flow", build, expected, given, _FETCH_ERROR)


def _case(name: str, build: Any, expected: Array, given: Given, error: float) -> Case:
    dtype = given.current.dtype
    tolerance = error + (half_unit(1.0) if dtype == np.float16 else 0.0)
    return Case(OP, f"{name} {dtype}", build, {"out": expected.astype(dtype)}, {"out": tolerance})


def _mixed(past: Array, given: Given, weight: Array) -> Array:
    """Blend as the reference does, after what it leaves to its callers."""
    current = given.current.astype(np.float32)
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(past - current)
    past = np.where(sound, past, current)
    large = enlarged(weight, current.shape[2:]) * np.float32(given.amount)
    settled = np.clip(np.nan_to_num(large, nan=0.0), 0.0, _MOST).astype(np.float32)
    before, now, kept = map(torch.from_numpy, (past, current, settled))
    return reference.temporal_blend(before, now, kept).numpy()


def enlarged(weight: Array, size: tuple[int, ...]) -> Array:
    """Enlarge a weight bilinearly, float32 [1, 1, H, W]: half-pixel centres, edges continued."""
    for axis, count in zip((2, 3), size, strict=True):
        cells = weight.shape[axis]
        where = np.clip((np.arange(count) + 0.5) * cells / count - 0.5, 0, cells - 1)
        low = where.astype(int)
        part = np.expand_dims(where - low, tuple(range(1, 4 - axis)))
        first = np.take(weight, low, axis)
        second = np.take(weight, np.minimum(low + 1, cells - 1), axis)
        weight = first + (second - first) * part
    return weight.astype(np.float32)


def fetched(planes: Array, flow: Array, rounded: bool = False) -> Array:
    """Fetch planes [C, H, W] at each pixel's place plus flow [H, W, 2], edges continued.

    A flow of NaN leads to the first column or row. The place is always that of float32.

    Args:
        planes: float64.
        flow: float32.
        rounded: to float32 after each mix, as the kernels round; else exact.
    """
    keep: Any = (lambda x: x.astype(np.float32).astype(np.float64)) if rounded else np.asarray
    height, width = flow.shape[:2]
    y, x = np.indices((height, width), np.float32)
    # in float32, as the kernel adds them
    x = np.clip(np.nan_to_num(x + flow[..., 0], nan=0.0), 0, width - 1).astype(np.float64)
    y = np.clip(np.nan_to_num(y + flow[..., 1], nan=0.0), 0, height - 1).astype(np.float64)
    x0, y0 = x.astype(int), y.astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    with np.errstate(invalid="ignore"):
        upper = keep(planes[:, y0, x0] + (planes[:, y0, x1] - planes[:, y0, x0]) * (x - x0))
        lower = keep(planes[:, y1, x0] + (planes[:, y1, x1] - planes[:, y1, x0]) * (x - x0))
        return np.asarray(keep(upper + keep(lower - upper) * (y - y0)))


def occluded(flow: Array, backward: Array) -> Array:
    """Return where two flows [1, H, W, 2] disagree, bool [1, 1, H, W]."""
    back = fetched(backward[0].transpose(2, 0, 1).astype(np.float64), flow[0]).transpose(1, 2, 0)
    apart = np.linalg.norm(flow[0] + back, axis=-1)
    length = np.linalg.norm(flow[0], axis=-1) + np.linalg.norm(back, axis=-1)
    return np.asarray(apart > 0.01 * length + 0.5)[None, None]
