"""The pictures that the drift lab's inputs are made of."""

import numpy as np
import pytest
from clips import write_video

from lsd.lab.drift import stills
from lsd.lab.drift.stills import ROOM, disc, still
from lsd.pipeline.errors import SourceError
from lsd.pipeline.frame import Size


@pytest.mark.parametrize("size", [Size(64, 64), Size(128, 64), Size(64, 128)])
@pytest.mark.parametrize("number", range(4))
def test_a_still_leaves_the_camera_room_on_both_sides(number, size):
    picture = still(number, size)

    assert picture.dtype == np.uint8
    assert picture.shape[0] >= ROOM * size.height
    assert picture.shape[1] >= ROOM * size.width
    assert picture.std() > 20  # there is something to see


def test_stills_are_four_different_pictures_that_nobody_can_spoil():
    pictures = [still(number, Size(64, 64)) for number in range(4)]

    for picture in pictures:
        assert not picture.flags.writeable
    crops = [picture[:96, :96].astype(float) for picture in pictures]
    assert all(np.abs(a - b).mean() > 20 for a in crops for b in crops if a is not b)


def test_drawn_stills_are_always_the_same():
    draw = still.__wrapped__  # not what is remembered

    np.testing.assert_array_equal(draw(1, Size(64, 64)), draw(1, Size(64, 64)))


def test_a_clip_that_is_not_there_is_told_of(monkeypatch, tmp_path):
    monkeypatch.setattr(stills, "files", lambda package: tmp_path)

    with pytest.raises(SourceError, match=r"city.mp4: cannot be read .*; reinstall livesd"):
        stills._clip_picture.__wrapped__(30)  # not what is remembered


def test_a_clip_that_is_too_short_is_told_of(monkeypatch, tmp_path):
    write_video(tmp_path / "city.mp4", count=3)
    monkeypatch.setattr(stills, "files", lambda package: tmp_path)

    with pytest.raises(SourceError, match=r"city.mp4: has no picture 30; reinstall livesd"):
        stills._clip_picture.__wrapped__(30)  # not what is remembered


def test_the_disc_is_round_full_inside_and_soft_at_its_edge():
    picture, shape = disc(10)

    assert picture.shape == (21, 21, 3)
    assert shape[10, 10] == 1
    assert shape[0, 0] == 0
    y, x = np.indices((21, 21)) - 10
    assert shape.sum() == pytest.approx(np.pi * 8.5**2, rel=0.02)
    assert ((shape > 0.99) == (np.hypot(x, y) <= 8)).all()
