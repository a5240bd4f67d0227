"""How pack_history is planned and refused, and that a card packs what the twins say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from card_tools import fetch, picture, send

from lsd.kernels import ops, reference
from lsd.kernels.lanes import on
from lsd.kernels.plans import pack_history
from lsd.pipeline.errors import KernelError


def planes(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def pixels(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def off(start: int, *shape: int) -> np.ndarray:
    """Return pixels that begin so many bytes behind the start of an allocation."""
    return pixels(start + int(np.prod(shape)))[start:].reshape(shape)


def drawn(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(width).integers(0, 256, (1, height, width, 3), np.uint8)
    return picture(height, (1, 3, height, width)), source


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 128), (5, 129), (270, 480)])
def test_grid_covers_every_pixel_and_no_more_than_a_block_beyond(height: int, width: int) -> None:
    given = planes(1, 3, height, width), pixels(1, height, width, 3), pixels(1, height, width, 4)
    (launch,) = pack_history.plan(*given)
    assert 0 <= launch.grid[0] * 512 - height * width < 512
    assert launch.grid[1:] == (1, 1)


@pytest.mark.parametrize(
    ("width", "source_at", "out_at", "is_vector"),
    [(8, 0, 0, 1), (6, 0, 0, 1), (7, 0, 0, 0), (8, 1, 0, 0), (8, 4, 0, 1), (8, 0, 4, 0)],
)
def test_words_are_used_where_every_four_pixels_keep_to_them(
    width: int, source_at: int, out_at: int, is_vector: int
) -> None:
    source, out = off(source_at, 1, 2, width, 3), off(out_at, 1, 2, width, 4)
    (launch,) = pack_history.plan(planes(1, 3, 2, width), source, out)
    assert launch.args[-1] == is_vector


def test_half_floats_have_an_entry_of_their_own() -> None:
    x = planes(1, 3, 4, 8, dtype=np.float16)
    (launch,) = pack_history.plan(x, pixels(1, 4, 8, 3), pixels(1, 4, 8, 4))
    assert launch.entry == "pack_history_f16"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": planes(2, 3, 4, 8)}, r"x is float32 \[2, 3, 4, 8\], expected a batch of 1"),
        ({"x": pixels(1, 3, 4, 8)}, "x is uint8.*expected float32 or float16"),
        ({"source": pixels(1, 4, 9, 3)}, r"expected uint8 \[1, 4, 8, 3\]"),
        ({"source": pixels(1, 4, 8, 6)[..., ::2]}, "with gaps, expected it contiguous"),
        ({"out": pixels(1, 4, 8, 3)}, r"out is uint8 \[1, 4, 8, 3\], expected uint8 \[1, 4, 8, 4"),
        ({"out": off(2, 1, 4, 8, 4)}, "expected a multiple of 4 bytes"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, np.ndarray], told: str) -> None:
    given = {"x": planes(1, 3, 4, 8), "source": pixels(1, 4, 8, 3), "out": pixels(1, 4, 8, 4)}
    with pytest.raises(KernelError, match=told):
        pack_history.plan(**(given | change))


def test_the_past_is_the_pictures_bytes_and_the_sources_luma() -> None:
    x, source = map(torch.from_numpy, drawn(5, 7))
    packed = ops.pack_history(x, source)
    assert torch.equal(packed[..., :3], reference.tensor_to_frame(x))
    assert torch.equal(packed[..., 3:], reference.luma(source))


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 12)])
def test_the_past_on_the_card_is_its_twin_and_can_be_warped_as_it_is(lane, size) -> None:
    x, source = drawn(*size)
    # sixteenths of a pixel: OpenCV's places and sums are exact, whatever its version
    motion = np.random.default_rng(2).integers(-32, 33, (1, *size, 2)).astype(np.float32) / 16
    with on(lane):
        packed = ops.pack_history(send(lane, x), send(lane, source))
        moved = ops.warp(packed, send(lane, motion))
    twin = reference.pack_history(torch.from_numpy(x), torch.from_numpy(source))
    assert np.array_equal(fetch(lane, packed), twin.numpy())
    apart = fetch(lane, moved).astype(int) - reference.warp(twin, torch.from_numpy(motion)).numpy()
    assert abs(apart).max() <= 1  # where a mix lies between two bytes, either is right
