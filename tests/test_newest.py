"""The picture that was captured last, seen by a sink in another process."""

from __future__ import annotations

import sys

import pytest
import torch
from fakes import FakeOptions

from lsd.pipeline.frame import PIXELS, Frame, FrameFlag, Size
from lsd.pipeline.links.parcel import FrameCodec, frame_bytes
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.newest import Newest, Showing
from lsd.pipeline.params import ParamStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rings need Linux")
SIZE = Size(64, 48)
OPTIONS = {"capture": FakeOptions(kind="capture")}
PARAMS = ParamStore(OPTIONS).snapshot()


def captured(seq):
    data = torch.full((1, SIZE.height, SIZE.width, 3), seq % 256, dtype=torch.uint8)
    return Frame(seq, seq, seq, None, data, data, None, PARAMS, FrameFlag.NONE)


def codec():
    return FrameCodec("test", 0, PIXELS, Snapshots(OPTIONS))


@pytest.fixture
def ring():
    made = Ring.create(
        "newest", pixel_bytes=frame_bytes(SIZE, PIXELS), capacity=1, policy="drop_oldest", keeps=1
    )
    yield made
    made.close()


def test_sink_sees_what_was_captured_last_and_never_waits(ring):
    showing, newest = Showing(ring, codec()), Newest(ring, codec())
    assert newest.look() is None
    for seq in range(300):  # many more than there are slots, seen or not
        showing.show(captured(seq))
        if seq % 7 == 0:
            found = newest.look()
            assert found.seq == seq
            assert found.data is found.source
            assert (found.data == seq % 256).all()
    assert newest.look().seq == 299
    assert newest.look().seq == 299, "there is nothing newer"
    assert (newest.look().data == 299 % 256).all()
    newest.leave()
    showing.leave()


def test_last_one_stays_when_its_source_has_gone_and_a_successor_goes_on(ring):
    newest = Newest(ring, codec())
    for seq in (5, 9):
        showing = Showing(ring, codec())
        showing.show(captured(seq))
        showing.leave()
        assert newest.look().seq == seq
        assert newest.look().seq == seq
    newest.leave()


def test_a_sink_that_has_gone_stops_no_source(ring):
    showing, newest = Showing(ring, codec()), Newest(ring, codec())
    newest.leave()
    showing.show(captured(1))
    later = Newest(ring, codec())
    showing.show(captured(2))
    assert later.look().seq == 2
    later.leave()
    showing.leave()
