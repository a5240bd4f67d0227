"""How the kernels between pixels and planes are planned, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lsd.kernels import reference
from lsd.kernels.plans import frame_to_tensor, luma, temporal_blend, tensor_to_frame, warp
from lsd.lab.ptx.cases.temporal_blend import fetched, smooth_flow
from lsd.pipeline.errors import KernelError


def planes(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def pixels(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 128), (5, 129), (270, 480)])
def test_grid_covers_every_pixel_and_no_more_than_a_block_beyond(height: int, width: int) -> None:
    (launch,) = frame_to_tensor.plan(pixels(2, height, width, 3), planes(2, 3, height, width))
    across, down, batch = launch.grid
    assert 0 <= across * 128 - width < 128
    assert 0 <= down * 4 - height < 4
    assert batch == 2


def test_order_swaps_the_planes_of_the_outer_bytes() -> None:
    ends = {}
    for order in ("rgb", "bgr"):
        (launch,) = tensor_to_frame.plan(planes(1, 3, 4, 8), pixels(1, 4, 8, 3), order)
        ends[order] = launch.args[6:8]
    assert ends == {"rgb": (0, 64), "bgr": (64, 0)}


@pytest.mark.parametrize(
    ("width", "pitch", "is_vector"), [(8, 24, 1), (8, 32, 1), (8, 26, 0), (7, 24, 0)]
)
def test_words_are_used_where_every_row_keeps_to_them(
    width: int, pitch: int, is_vector: int
) -> None:
    (launch,) = frame_to_tensor.plan(pixels(1, 4, pitch), planes(1, 3, 4, width))
    assert launch.args[-1] == is_vector


def test_words_are_not_used_from_an_odd_address() -> None:
    view = pixels(1 + 4 * 24)[1:].reshape(1, 4, 24)
    (launch,) = frame_to_tensor.plan(view, planes(1, 3, 4, 8))
    assert launch.args[-1] == 0


@pytest.mark.parametrize(
    ("source", "entry"),
    [((8, 8), "area"), ((12, 16), "area"), ((7, 16), "resize"), ((4, 4), "resize")],
)
def test_shrinking_on_both_axes_takes_means(source: tuple[int, int], entry: str) -> None:
    (launch,) = frame_to_tensor.plan_scaled(pixels(1, *source, 3), planes(1, 3, 8, 8))
    assert launch.entry == f"frame_to_tensor_{entry}_f32"


def test_half_floats_have_entries_of_their_own() -> None:
    (launch,) = frame_to_tensor.plan(pixels(1, 4, 8, 3), planes(1, 3, 4, 8, dtype=np.float16))
    assert launch.entry == "frame_to_tensor_f16"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: frame_to_tensor.plan(pixels(1, 4, 8, 3), planes(1, 4, 4, 8)), r"\[B, 3, H, W\]"),
        (lambda: frame_to_tensor.plan(pixels(1, 4, 9, 3), planes(1, 3, 4, 8)), r"\[1, 4, 9, 3\]"),
        (lambda: frame_to_tensor.plan(pixels(1, 4, 23), planes(1, 3, 4, 8)), "rows of 23 bytes"),
        (
            lambda: frame_to_tensor.plan(planes(1, 4, 8, 3), planes(1, 3, 4, 8)),
            "pixels is float32.*expected uint8",
        ),
        (
            lambda: frame_to_tensor.plan(pixels(1, 4, 8, 3), planes(1, 3, 4, 8), "rbg"),  # type: ignore[arg-type]
            "'rbg', expected 'rgb' or 'bgr'",
        ),
        (
            lambda: tensor_to_frame.plan(planes(97)[1:].reshape(1, 3, 4, 8), pixels(1, 4, 8, 3)),
            "multiple of 16 bytes",
        ),
        (
            lambda: tensor_to_frame.plan(planes(1, 3, 4, 8)[..., ::2], pixels(1, 4, 4, 3)),
            "contiguous",
        ),
        (
            lambda: tensor_to_frame.plan(planes(1, 3, 4, 8, dtype=np.float64), pixels(1, 4, 8, 3)),
            "float32 or float16",
        ),
        (
            lambda: frame_to_tensor.plan_nv12(pixels(4, 6), pixels(2, 6), planes(1, 3, 4, 6)),
            "multiple of 4 and H even",
        ),
        (
            lambda: frame_to_tensor.plan_nv12(pixels(4, 8), pixels(4, 8), planes(1, 3, 4, 8)),
            r"chroma is uint8 \[4, 8\], expected uint8 \[2, 8\]",
        ),
        (
            lambda: tensor_to_frame.plan_nv12(planes(1, 3, 4, 8), pixels(4, 4), pixels(2, 4)),
            "rows of 4 bytes, expected 8 or more",
        ),
        (lambda: luma.plan(pixels(1, 4, 8, 3), pixels(1, 4, 8)), r"expected uint8 \[B, H, W, 1\]"),
        (lambda: warp.plan(planes(1, 3, 4, 8), planes(1, 4, 8, 2), planes(1, 3, 4, 7)), "out is"),
        (lambda: warp.plan(pixels(1, 4, 8, 3), planes(1, 4, 8, 2), pixels(1, 4, 8, 3)), "uint8"),
        (lambda: frame_to_tensor.plan([1], planes(1, 3, 4, 8)), "is a list"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, told: str) -> None:
    with pytest.raises(KernelError, match=told):
        call()


def test_a_warp_cannot_write_where_it_reads() -> None:
    picture = planes(1, 3, 4, 8)
    with pytest.raises(KernelError, match="give it a buffer of its own"):
        warp.plan(picture, planes(1, 4, 8, 2), picture)


def blend(weight: np.ndarray, **changed: Any) -> Any:
    given = {name: planes(1, 3, 8, 8) for name in ("previous", "current", "out")} | changed
    values = temporal_blend.settings(1.0, 0.85)
    return temporal_blend.plan(given["previous"], given["current"], weight, values, given["out"])


def test_weight_of_the_pictures_size_is_read_by_fours() -> None:
    assert blend(planes(1, 1, 8, 8))[0].args[-1] == 3
    assert blend(planes(1, 1, 2, 2))[0].args[-1] == 2


@pytest.mark.parametrize("shape", [(1, 1, 9, 8), (1, 1, 8, 16), (1, 3, 8, 8)])
def test_weight_of_another_kind_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(KernelError, match="weight"):
        blend(planes(*shape))


def test_blend_that_warps_cannot_write_into_its_past() -> None:
    past, flow = planes(1, 3, 8, 8), planes(1, 8, 8, 2)
    values, weight = temporal_blend.settings(1.0, 0.85), planes(1, 1, 2, 2)
    with pytest.raises(KernelError, match="out is previous"):
        temporal_blend.plan_warp(past, planes(1, 3, 8, 8), weight, flow, None, values, past)


def test_cases_of_the_warp_are_the_references() -> None:
    # OpenCV is exact from 5.0 on, so that the cases' own arithmetic can stand for it
    flow = smooth_flow((48, 64), 3.0)
    draw = np.random.default_rng(0)
    picture = draw.uniform(-1, 1, (3, 48, 64)).astype(np.float32)
    moved = reference.warp(torch.from_numpy(picture[None]), torch.from_numpy(flow))[0].numpy()
    assert np.abs(fetched(picture.astype(np.float64), flow[0]) - moved).max() < 1e-6
    packed = draw.integers(0, 256, (1, 48, 64, 4), np.uint8)
    moved = reference.warp(torch.from_numpy(packed), torch.from_numpy(flow))[0].numpy()
    exact = fetched(packed[0].transpose(2, 0, 1).astype(np.float64), flow[0], rounded=True)
    assert np.array_equal(np.rint(exact).transpose(1, 2, 0), moved)
