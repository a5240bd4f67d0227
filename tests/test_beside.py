"""The comparison of a card's streams with the CPU's: on the CPU, its own twin."""

import numpy as np

from lsd.lab import beside
from lsd.stages.models.styles import STYLES


def test_same_device_is_alike_and_another_style_is_not(monkeypatch, capsys):
    ink = beside.stream("cpu", "ink", 1, 3)
    assert ink.pixels.shape == (3, 256, 256, 3)
    assert np.array_equal(ink.pixels, beside.stream("cpu", "ink", 1, 3).pixels)
    assert beside.cv2.PSNR(ink.pixels, beside.stream("cpu", "neon", 1, 3).pixels) < 20
    monkeypatch.setattr(beside, "STYLES", STYLES[:1])
    beside.main("cpu", 1, 2)
    assert capsys.readouterr().out.startswith("ink        first 99.0, worst 99.0, last 99.0 dB")
