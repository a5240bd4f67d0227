"""What is told of a run without a limit."""

from __future__ import annotations

import numpy as np
import pytest
from drift_streams import Array, healthy, stream

from lsd.lab.drift.gates import judge
from lsd.lab.drift.inputs import Motion


def fading(n: int, s: Array, before: Array, motion: Motion) -> Array:
    left = np.float32(1 - n / 1_000)
    return left * healthy(n, s, before, motion) + (1 - left) * np.float32(0.5)


def freeze(n: int, s: Array, before: Array, motion: Motion) -> Array:
    return before if n > 100 else healthy(n, s, before, motion)


def test_plain_figures_are_told_beside_the_gates() -> None:
    values = judge([stream(fading, 500)]).figures[0].values
    for name in ("gradient detail", "frame variance", "colour std", "saturation"):
        assert values[f"{name}, late"] < 0.9 * values[f"{name}, early"]
    assert values["variance preservation"] == pytest.approx(
        values["frame variance, late"] / values["frame variance, early"]
    )
    assert values["repetition"] == 0
    assert values["PSNR(y,S), dB, late"] < values["PSNR(y,S), dB, early"]
    assert values["PSNR(y,S) - PSNR(x,S), dB"] == pytest.approx(
        values["PSNR(y,S), dB"] - values["PSNR(S,x), dB"]
    )


def test_frozen_stream_is_told_to_repeat_itself() -> None:
    values = judge([stream(freeze, 500)]).figures[0].values
    assert values["repetition"] == pytest.approx(0.8, abs=0.01)
