"""The test patterns: the same everywhere, moving as stated."""

from __future__ import annotations

import numpy as np
import pytest
from clips import context

from lsd.pipeline.errors import SourceError
from lsd.stages.sources.pattern import MOTION, open_source
from lsd.stages.uri import parse_uri


def open_pattern(text: str, **options: object):
    return open_source(parse_uri(text), context(**options), False)


@pytest.mark.parametrize("name", MOTION)
def test_pattern_moves_as_stated(name: str) -> None:
    source = open_pattern(f"test://{name}?size=80x64")
    dx, dy = MOTION[name]
    assert (np.roll(source.picture(4), (dy, dx), (0, 1)) == source.picture(5)).all()
    assert (source.picture(4) != source.picture(5)).any()


@pytest.mark.parametrize("name", MOTION)
def test_pattern_is_the_same_each_time(name: str) -> None:
    first, second = (open_pattern(f"test://{name}?seed=5").picture(9) for _ in range(2))
    assert (first == second).all()


def test_seed_changes_the_texture() -> None:
    a, b = (open_pattern(f"test://moving?seed={seed}").picture(0) for seed in (1, 2))
    assert (a != b).any()


def test_size_rate_and_length_come_from_the_uri() -> None:
    source = open_pattern("test://bars?size=40x30&rate=50&frames=3")
    shots = [source.read() for _ in range(4)]
    assert shots[3] is None
    assert shots[0].pixels.shape == (30, 40, 3)
    assert [shot.pts_ns for shot in shots[:3]] == [0, 20_000_000, 40_000_000]
    assert [shot.discontinuity for shot in shots[:3]] == [True, False, False]
    assert source.expected() == 3


def test_size_and_rate_default_to_the_pipelines() -> None:
    source = open_pattern("test://bars", size=(48, 32), rate_hz=20.0)
    assert source.read().pixels.shape == (32, 48, 3)
    assert source.read().pts_ns == 50_000_000
    assert source.expected() is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("test://bar", r"test://bar: no such test pattern; did you mean 'bars'\?"),
        ("test://bars?speed=2", "unknown option 'speed'; the options are size, rate, frames, seed"),
        ("test://bars?size=0x5", "size is '0x5', expected a size such as 256x256"),
        ("test://bars?rate=fast", "rate is 'fast', expected pictures a second"),
        ("test://bars?frames=-1", "frames is '-1', expected a whole number"),
    ],
)
def test_bad_pattern_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        open_pattern(text)
