"""Fitting: any size in, the pipeline's size out, by a stated rule."""

from __future__ import annotations

import numpy as np
import pytest

from lsd.pipeline.frame import Size
from lsd.stages.sources.fit import fit

RULES = ["crop", "pad", "stretch"]
SIZES = [(1, 1), (17, 31), (31, 17), (3840, 2160), (1, 500), (500, 1), (64, 64), (63, 200)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("source", SIZES)
def test_any_size_becomes_the_targets(source: tuple[int, int], rule: str) -> None:
    pixels = np.full((source[1], source[0], 3), 200, np.uint8)
    out = fit(pixels, Size(64, 48), rule)
    assert out.shape == (48, 64, 3)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert out.max() == 200


def halves(width: int, height: int) -> np.ndarray:
    """Left third red, middle green, right third blue."""
    out = np.zeros((height, width, 3), np.uint8)
    third = width // 3
    out[:, :third, 0] = out[:, third : 2 * third, 1] = out[:, 2 * third :, 2] = 255
    return out


def test_crop_keeps_the_centre() -> None:
    out = fit(halves(192, 64), Size(64, 64), "crop")
    assert (out == (0, 255, 0)).all()


def test_pad_shows_everything_between_black_bars() -> None:
    out = fit(halves(192, 64), Size(192, 192), "pad")
    assert (out[:64] == 0).all()
    assert (out[128:] == 0).all()
    assert (out[64:128] == halves(192, 64)).all()


def test_stretch_uses_the_whole_target() -> None:
    out = fit(halves(192, 64), Size(48, 64), "stretch")
    assert (out[:, :16] == (255, 0, 0)).all()
    assert (out[:, 32:] == (0, 0, 255)).all()


def test_shrinking_averages() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    out = fit(stripes, Size(96, 96), "crop")
    # 100 everywhere; the last stripe of a fractional step weighs a little more.
    assert np.abs(out.astype(int) - 100).max() <= 2


def test_halving_first_shifts_nothing() -> None:
    ramp = np.repeat(np.arange(1024)[None, :, None] / 4, 1024, 0).repeat(3, 2).astype(np.uint8)
    out = fit(ramp, Size(96, 96), "crop")
    # Column i covers source columns 10.67 i to 10.67 (i + 1).
    expected = (np.arange(96) + 0.5) * 1024 / 96 / 4
    assert np.abs(out[48, :, 0] - expected).max() < 1.5


def test_fitting_picture_passes_untouched() -> None:
    pixels = halves(64, 64)
    assert np.shares_memory(fit(pixels, Size(64, 64), "crop"), pixels)
