"""The drift lab's inputs: deterministic, of any length, with exact motion."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.lab.drift import inputs, moving
from lsd.lab.drift.inputs import (
    CUT_EVERY,
    DARK,
    INPUTS,
    LAP,
    SENSOR_NOISE,
    SWITCH_EVERY,
    Shots,
    open_input,
)
from lsd.lab.drift.moving import Moving, placed, shift
from lsd.lab.drift.stills import disc
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.stages.models.texture import PERIOD

SMALL = Size(64, 64)


def fresh(name, size=SMALL):
    return INPUTS[name](size)


def warped(picture, motion):
    """Fetch each pixel of the current picture from where the motion says that it was."""
    y, x = np.indices(picture.shape[:2], np.float32)
    where = x + motion.flow[..., 0], y + motion.flow[..., 1]
    return cv2.remap(picture.astype(np.float32), *where, cv2.INTER_LINEAR)


def off(before, now, motion):
    """Return by how many pixels the motion is wrong, in the worst quarter of the picture.

    Least squares over its pixels (Lucas and Kanade 1981): OpenCV takes places to a
    32nd of a pixel, which this averages out.
    """
    difference = np.where(motion.visible[..., None], warped(before, motion) - now, 0)
    down, right = np.gradient(now.astype(np.float32), axis=(0, 1))
    worst = 0.0
    for part in np.indices((2, 2)).reshape(2, -1).T * 32:
        rows, columns = (slice(start, start + 32) for start in part)
        slopes = np.stack([right[rows, columns].ravel(), down[rows, columns].ravel()], 1)
        error = np.linalg.lstsq(slopes, difference[rows, columns].ravel(), rcond=None)[0]
        worst = max(worst, np.hypot(*error))
    return worst


def waves(height, width):
    """Draw a still that interpolation does not spoil; uint8 [height, width, 3]."""
    y, x = np.indices((height, width), np.float32)
    planes = [np.sin(x / 9) * np.cos(y / 14), np.sin((x + y) / 16), np.cos(x / 12 - y / 10)]
    return np.round(127.5 + 110 * np.stack(planes, -1)).astype(np.uint8)


@pytest.mark.parametrize("name", INPUTS)
def test_any_frame_can_be_asked_for_and_is_always_the_same(name):
    far, first = fresh(name), fresh(name)

    for n in (310, 0, 7):
        pixels = far.pixels(n)

        assert pixels.dtype == np.uint8
        assert pixels.shape == (64, 64, 3)
        np.testing.assert_array_equal(pixels, first.pixels(n))
        np.testing.assert_array_equal(pixels, far.pixels(n))


@pytest.mark.parametrize("name", ["loop", "static", "switches"])
@pytest.mark.parametrize("n", [1, 77, LAP])
def test_periodic_inputs_repeat_pictures_and_motion_after_a_lap(name, n):
    source = fresh(name)

    assert LAP % source.period == 0
    np.testing.assert_array_equal(source.pixels(n), source.pixels(n + LAP))
    flow, visible = source.motion(n + LAP)
    np.testing.assert_array_equal(source.motion(n).flow, flow)
    np.testing.assert_array_equal(source.motion(n).visible, visible)


def test_a_lap_ends_where_it_began_without_a_jump():
    source = fresh("loop")
    steps = [np.abs(source.motion(n).flow).mean() for n in (LAP - 1, LAP, LAP + 1)]

    assert max(steps) < 1.1 * min(steps)


def test_a_lap_holds_whole_periods_of_the_texture():
    assert LAP % PERIOD == 0


@pytest.mark.parametrize("name", ["pan", "aperiodic", "cuts", "noise", "black"])
def test_the_other_inputs_do_not_repeat(name):
    source = fresh(name)

    assert source.period is None
    assert not np.array_equal(source.pixels(40), source.pixels(40 + LAP))


@pytest.fixture
def smooth(monkeypatch):
    """Have the inputs made of pictures that interpolation does not spoil."""
    monkeypatch.setattr(inputs, "still", lambda number, size: waves(96 + number, 110))
    monkeypatch.setattr(moving, "disc_picture", lambda r: (waves(2 * r + 1, 2 * r + 1), disc(r)[1]))


@pytest.mark.usefixtures("smooth")
@pytest.mark.parametrize("name", ["loop", "pan", "aperiodic", "cuts", "black"])
@pytest.mark.parametrize("n", [1, 50, LAP, 290, 401])
def test_motion_says_where_everything_was(name, n):
    source = fresh(name)
    motion = source.motion(n)

    assert motion.flow.shape == (64, 64, 2)
    assert motion.flow.dtype == np.float32
    assert motion.visible.mean() > 0.9
    assert off(source.pixels(n - 1), source.pixels(n), motion) < 0.03


@given(st.integers(1, 2_000))
def test_motion_is_exact_for_any_camera(n):
    def camera(n):
        turn, zoom = np.radians(3 * np.sin(n)), 1 + 0.05 * np.cos(n)
        return placed(turn, zoom, (64 + 9 * np.sin(n), 64 + 5 * np.cos(2 * n)), SMALL)

    source = Moving(SMALL, waves(128, 128), camera)

    assert off(source.pixels(n - 1), source.pixels(n), source.motion(n)) < 0.03


def test_the_disc_moves_its_own_way_and_its_edge_does_not_count():
    still = np.full((96, 96, 3), 128, np.uint8)
    source = Moving(SMALL, still, lambda n: shift(16 + 2 * n, 16), lambda n: shift(-20 - n, -20))

    motion = source.motion(1)

    assert motion.flow[27, 27].tolist() == [-1, 0]  # on the disc, which goes right
    assert motion.flow[60, 5].tolist() == [2, 0]  # the camera goes right, so all goes left
    edge = np.abs(source.pixels(1).astype(int) - 128).max(-1) > 0
    assert not motion.visible[~edge & (source._share(1) > 0)].any()
    uncovered = (source._share(0) > 0.5) & (source._share(1) == 0)
    assert not motion.visible[uncovered].any()


def test_what_comes_in_over_the_edge_was_not_visible():
    motion = fresh("pan").motion(1)

    assert not motion.visible[:, -1].any()
    assert motion.visible[:, :-1].all()


@pytest.mark.usefixtures("smooth")
@pytest.mark.parametrize("n", [1, 350, 352, 354, 100_000, 10**9])
def test_a_pan_goes_on_for_ever_at_one_speed(n):
    source = fresh("pan")
    before, now, motion = source.pixels(n - 1), source.pixels(n), source.motion(n)

    np.testing.assert_allclose(motion.flow[..., 0], 1.25 * 64 / 256, atol=1e-4)
    assert motion.visible[:, :-1].all()
    assert off(before, now, motion) < 0.05  # the seam has a kink


def test_a_still_stays_still():
    source = fresh("static")
    motion = source.motion(1)

    np.testing.assert_array_equal(source.pixels(0), source.pixels(999))
    assert not motion.flow.any()
    assert motion.visible.all()


def test_noise_is_another_in_every_frame_and_the_same_in_every_run():
    source, clean = fresh("noise"), fresh("static").pixels(0)
    first, second = (source.pixels(n).astype(float) - clean for n in (1, 2))
    inside = (clean > 30) & (clean < 225)  # elsewhere it is clipped

    assert first[inside].std() == pytest.approx(SENSOR_NOISE, rel=0.05)
    assert abs(np.corrcoef(first[inside], second[inside])[0, 1]) < 0.05
    np.testing.assert_array_equal(source.pixels(1), fresh("noise").pixels(1))


def test_cuts_come_every_300_frames_to_four_scenes():
    source = fresh("cuts")
    cuts = [n for n in range(4 * CUT_EVERY + 1) if source.is_cut(n)]

    assert cuts == [300, 600, 900, 1200]
    assert all(source.motion(n) is None for n in (0, *cuts))
    scenes = [source.pixels(n).astype(float) for n in (0, *cuts[:3])]
    apart = [np.abs(a - b).mean() for a in scenes for b in scenes if a is not b]
    assert min(apart) > 20
    np.testing.assert_array_equal(source.pixels(1200), source.pixels(0))


def test_switches_change_the_style_and_not_the_picture():
    assert SWITCH_EVERY == 500
    assert not any(fresh("switches").is_cut(n) for n in (0, SWITCH_EVERY, 2 * SWITCH_EVERY))


def test_black_lasts_100_frames_and_then_a_scene_begins():
    source = fresh("black")

    assert DARK == 100
    assert not source.pixels(DARK - 1).any()
    assert source.pixels(DARK).mean() > 30
    assert [n for n in range(0, 2_000, 50) if source.is_cut(n)] == [DARK]
    assert source.motion(DARK) is None
    assert source.motion(DARK + 1) is not None


def test_an_input_is_opened_once_and_nobody_can_spoil_it():
    source = open_input("loop", SMALL)

    assert open_input("loop", SMALL) is source
    with pytest.raises(ValueError, match="read-only"):
        source.pixels(3)[:] = 0


def test_an_unknown_input_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="no input 'lop'; did you mean 'loop'"):
        open_input("lop", SMALL)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 60))
def test_shots_follow_each_other_round_and_round(lengths, n):
    class Numbered:
        period = None

        def __init__(self, number):
            self.number = number

        def pixels(self, n):
            return self.number, n

    shots = Shots([Numbered(k) for k in range(len(lengths))], lengths)
    expected = [(k, own) for k, length in enumerate(lengths) for own in range(length)]

    assert shots.pixels(n) == expected[n % len(expected)]
    assert shots.is_cut(n) == (n > 0 and shots.pixels(n)[1] == 0)
