"""Guards: which pictures are rejected, and which are not."""

from __future__ import annotations

import math

import pytest
import torch
from model_frames import scene, smooth

from lsd.kernels import ops
from lsd.stages import guards


def verdict(
    picture: torch.Tensor,
    source: torch.Tensor,
    previous: torch.Tensor | None,
    change: float | None,
) -> str | None:
    """Return why a picture is rejected; None: it is not."""
    good = torch.zeros_like(picture) if previous is None else previous
    limits = guards.limits(source, change)
    guarded = ops.guard(picture, good, *limits, previous)
    assert guarded.picture is (good if guarded.code else picture)
    return guards.REASONS[guarded.code] if guarded.code else None


GREY = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)


@pytest.mark.parametrize("previous", [None, smooth(1)])
@pytest.mark.parametrize("change", [None, 0.0, 0.5])
def test_good_picture_passes(previous: torch.Tensor | None, change: float | None) -> None:
    assert verdict(smooth(0), scene(0), previous, change) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 3e38])
def test_one_bad_value_is_enough(bad: float) -> None:
    picture = smooth(0)
    picture[0, 1, 17, 40] = bad
    assert verdict(picture, scene(0), None, None) == "not finite"


@pytest.mark.parametrize("level", [-1.0, 0.0, 0.95])
def test_one_colour_from_an_input_with_content_has_collapsed(level: float) -> None:
    flat = torch.full((1, 3, 64, 64), level) + 0.001 * smooth(0)
    assert verdict(flat, scene(0), None, None) == "collapsed"


def test_one_colour_from_an_input_of_one_colour_is_right() -> None:
    assert verdict(torch.zeros(1, 3, 64, 64), GREY, None, None) is None


def test_faint_picture_has_not_collapsed() -> None:
    faint = 0.9 + smooth(0, std=2 * guards.FLAT_STD)
    assert verdict(faint, scene(0), None, None) is None


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_jump_that_the_input_does_not_explain_is_rejected(sign: float) -> None:
    last = smooth(0)
    jumped = last + sign * (guards.JUMP + 0.05)
    assert verdict(jumped, scene(0), last, 0.0) == "jumped"


def test_small_change_of_brightness_is_no_jump() -> None:
    last = smooth(0)
    assert verdict(last + guards.JUMP - 0.05, scene(0), last, 0.0) is None


@pytest.mark.parametrize("change", [0.05, None])
def test_jump_of_the_input_or_a_cut_explains_a_jump(change: float | None) -> None:
    last = smooth(0)
    assert verdict(last + 0.8, scene(0), last, change) is None


def test_first_picture_cannot_jump() -> None:
    assert verdict(smooth(0) + 0.8, scene(0), None, None) is None
