"""How guard is planned and refused, and that a card decides as the twin does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from card_tools import fetch, picture, send

from lsd.kernels import ops
from lsd.kernels.lanes import on
from lsd.kernels.plans import guard
from lsd.pipeline.errors import KernelError

FLAT, JUMP = 0.02, 0.35
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float16])


def buffers(*shape: int, dtype: Any = np.float32) -> dict[str, Any]:
    """Return what the plan takes, for pictures of a shape."""
    return {
        **{name: np.zeros(shape, dtype) for name in ("x", "good", "out")},
        **{name: np.zeros(516, np.uint32) for name in ("stats", "last")},
        "limits": guard.limits(FLAT, JUMP),
        "verdict": np.zeros(4, np.uint32),
    }


def off(start: int, *shape: int) -> np.ndarray:
    """Return values that begin so many behind the start of an allocation."""
    return np.zeros(start + math.prod(shape), np.float32)[start:].reshape(shape)


@pytest.mark.parametrize("shape", [(1,), (1, 3, 1, 1), (1, 3, 5, 7), (1, 3, 270, 480)])
@each_dtype
def test_grid_covers_every_value_and_no_more_than_a_block_beyond(shape: Any, dtype: Any) -> None:
    (launch,) = guard.plan(**buffers(*shape, dtype=dtype))
    count, values = math.prod(shape), 16 // np.dtype(dtype).itemsize
    assert 0 <= launch.grid[0] * 256 * values - count < 256 * values
    assert launch.args[-2:] == (count, count // values * values)


@pytest.mark.parametrize("name", ["x", "good", "out"])
def test_a_picture_off_its_16_bytes_is_copied_value_by_value(name: str) -> None:
    for start, whole in ((4, 104), (1, 0)):
        (launch,) = guard.plan(**(buffers(1, 3, 5, 7) | {name: off(start, 1, 3, 5, 7)}))
        assert launch.args[-1] == whole


def test_without_a_last_output_the_kernel_gets_a_null_pointer() -> None:
    (launch,) = guard.plan(**(buffers(1, 3, 5, 7) | {"last": None}))
    assert launch.args[3] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": np.zeros((1, 3, 5, 7), np.uint8)}, "x is uint8.*expected float32 or float16"),
        ({"good": np.zeros((1, 3, 5, 8), np.float32)}, r"good is float32 \[1, 3, 5, 8\], expected"),
        ({"good": np.zeros((1, 3, 5, 7), np.float16)}, "good is float16"),
        ({"x": np.zeros((1, 3, 5, 14), np.float32)[..., ::2]}, "with gaps"),
        ({"stats": None}, "stats is a NoneType"),
        ({"stats": np.zeros(512, np.uint32)}, r"stats is uint32 \[512\], expected uint32 \[516\]"),
        ({"last": np.zeros(516, np.float32)}, "last is float32"),
        ({"limits": np.zeros(3, np.float32)}, r"limits is float32 \[3\], expected float32 \[2\]"),
        ({"verdict": np.zeros(1, np.uint32)}, r"verdict is uint32 \[1\], expected uint32 \[4\]"),
        ({"verdict": np.zeros(5, np.uint32)[1:]}, "multiple of 16 bytes"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(KernelError, match=told):
        guard.plan(**(buffers(1, 3, 5, 7) | change))


@pytest.mark.parametrize("name", ["x", "good"])
def test_out_shares_no_byte_with_a_picture_that_is_read(name: str) -> None:
    whole = np.zeros(3 * 105, np.float32)

    def part(start: int) -> np.ndarray:
        return whole[start : start + 105].reshape(1, 3, 5, 7)

    for start in (1, 105, 209):
        with pytest.raises(KernelError, match=f"out overlaps {name}"):
            guard.plan(**(buffers(1, 3, 5, 7) | {name: part(105), "out": part(start)}))
    for start in (0, 210):
        guard.plan(**(buffers(1, 3, 5, 7) | {name: part(105), "out": part(start)}))


def spoiled(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[0, 1, 2, 3] = np.nan
    return values


X = 0.4 * picture(1)
# picture, last output, flat, jump, code
DECISIONS = [
    (X, X + 0.2, FLAT, JUMP, 0),
    (X, None, FLAT, JUMP, 0),
    (spoiled(X), X, FLAT, JUMP, 1),
    (0.01 * X, X, FLAT, JUMP, 2),
    (0.01 * X, 0.01 * X, 0.0, JUMP, 0),
    (X + 0.5, X, FLAT, JUMP, 3),
    (X - 0.5, X, FLAT, JUMP, 3),
    (X + 0.5, X, FLAT, math.inf, 0),
    (X + 0.5, spoiled(X), FLAT, JUMP, 0),
    (0.01 * X + 0.9, X, FLAT, JUMP, 2),
    (spoiled(0.01 * X + 0.9), X, FLAT, JUMP, 1),
]
each_decision = pytest.mark.parametrize(("x", "last", "flat", "jump", "code"), DECISIONS)


@each_decision
def test_the_twin_shows_the_picture_itself_or_the_good_one(x, last, flat, jump, code) -> None:
    given, good = torch.from_numpy(x), torch.from_numpy(picture(2))
    found = ops.guard(given, good, flat, jump, None if last is None else torch.from_numpy(last))
    assert found.code == code
    assert found.picture is (good if code else given)


@each_decision
def test_a_card_decides_as_the_twin_and_keeps_both_there(lane, x, last, flat, jump, code) -> None:
    good = picture(2)
    with on(lane):
        before = None if last is None else send(lane, last)
        found = ops.guard(send(lane, x), send(lane, good), flat, jump, before)
    assert fetch(lane, found.code).tolist() == [code, 0, 0, 0]
    assert np.array_equal(fetch(lane, found.picture), good if code else x)


def test_limits_are_sent_once_and_a_second_frame_allocates_nothing(card, lane) -> None:
    x, good = send(lane, X), send(lane, picture(2))

    def frame(jump: float) -> None:
        with on(lane):
            ops.guard(x, good, FLAT, jump, good)

    frame(JUMP)
    frame(math.inf)
    assert sorted(lane.constants) == ["guard 0.02 0.35", "guard 0.02 inf", "stats"]
    watched = "cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamSynchronize", "cuEventSynchronize"
    before = card.calls(*watched, "pageable")
    for jump in (JUMP, math.inf, JUMP):
        frame(jump)
    assert card.calls(*watched, "pageable") == before


def test_a_last_output_is_not_measured_where_any_jump_is_right(card, lane) -> None:
    x = send(lane, X)
    spent = []
    for jump in (JUMP, math.inf):
        before = card.calls("cuLaunchKernel")
        with on(lane):
            ops.guard(x, x, FLAT, jump, x)
        spent.append(card.calls("cuLaunchKernel") - before)
    assert spent == [5, 3]
