"""A frame crosses with its pictures, and with live parameters that the receiver has checked."""

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from lsd.pipeline.errors import WireError
from lsd.pipeline.frame import PIXELS, TENSOR, Frame, FrameFlag, Size
from lsd.pipeline.links.header import Header
from lsd.pipeline.links.message import BadMessage
from lsd.pipeline.links.parcel import FrameCodec, Parcel, frame_bytes, owned, views
from lsd.pipeline.links.snapshots import Snapshots
from lsd.pipeline.params import Params, ParamStore, StageOptions, live_field, restart_field

SIZE = Size(24, 16)


class Options(StageOptions):
    kind: str = "test"
    amount: float = live_field(0.5, "How much", ge=0, le=1)
    prompt: str = live_field("", "What")
    path: str = restart_field("here", "Where")


BASE = {"one": Options(kind="test"), "two": Options(kind="test", path="there")}


def frame(spec=TENSOR, **changes):
    height, width = SIZE.height, SIZE.width
    source = torch.arange(height * width * 3).to(torch.uint8).reshape(1, height, width, 3)
    data = source if spec == PIXELS else torch.rand(1, 3, height, width)
    facts = {
        "seq": 7, "pts_ns": 8, "captured_ns": 9, "deadline_ns": 10, "data": data,
        "source": source, "motion": torch.rand(1, height, width, 2), "params": Params(BASE, 3),
        "flags": FrameFlag.DISCONTINUITY | FrameFlag.PASSTHROUGH,
    }  # fmt: skip
    return Frame(**{**facts, **changes})


def codec(spec=TENSOR):
    return FrameCodec("s", 2, spec, Snapshots(BASE))


def crossed(parcel):
    """The parcel as it is on the other side: a header from bytes, pixels in one memory."""
    memory = bytearray(parcel.header.nbytes)
    for name, array in views(parcel.header.planes, memory, 0).items():
        np.copyto(array, parcel.planes[name])
    header = Header.decode(parcel.header.encode(), stream="s", epoch=2, capacity=len(memory))
    return Parcel(header, views(header.planes, bytes(memory), 0))


def same(one, other):
    for name in ("seq", "pts_ns", "captured_ns", "deadline_ns", "flags", "params"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("data", "source", "motion", "history"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        assert a is None or (a.dtype == b.dtype and torch.equal(a, b)), name


@pytest.mark.parametrize("spec", [PIXELS, TENSOR])
def test_frame_comes_back_as_it_went(spec):
    sent = frame(spec)
    same(sent, codec(spec).unpack(crossed(codec(spec).pack(sent))))


def test_frame_without_motion_and_with_history_comes_back():
    history = torch.ones(1, *SIZE[::-1], 4, dtype=torch.uint8)
    sent = frame(motion=None, history=history, deadline_ns=None, flags=FrameFlag.NONE)
    same(sent, codec().unpack(crossed(codec().pack(sent))))


def test_picture_that_is_its_own_source_crosses_once():
    sent = frame(PIXELS, motion=None)
    parcel = crossed(codec(PIXELS).pack(sent))
    assert parcel.header.nbytes == SIZE.width * SIZE.height * 3
    got = codec(PIXELS).unpack(parcel)
    assert got.data is got.source
    assert codec(PIXELS).unpack(owned(parcel)).data.data_ptr() != got.data.data_ptr()


def test_header_says_what_the_loops_need_besides():
    header = codec().pack(frame(), jumps=4, service_ns=5).header
    assert (header.jumps, header.service_ns, header.epoch) == (4, 5, 2)


def test_largest_frame_fits_what_is_said():
    history = torch.ones(1, *SIZE[::-1], 4, dtype=torch.uint8)
    for spec in (PIXELS, TENSOR):
        data = frame(spec).data.clone()
        assert codec(spec).pack(frame(spec, data=data, history=history)).header.nbytes <= (
            frame_bytes(SIZE, spec)
        )


def test_picture_on_a_card_is_refused():
    class OnCard:
        __cuda_array_interface__ = {}  # noqa: RUF012

    with pytest.raises(WireError, match="host's memory"):
        codec().pack(frame(data=OnCard()))


def test_frame_of_another_edge_is_refused():
    parcel = crossed(codec(PIXELS).pack(frame(PIXELS)))
    with pytest.raises(BadMessage, match="data is uint8"):
        codec(TENSOR).unpack(parcel)


def test_planes_of_different_sizes_are_refused():
    there = codec()
    there.unpack(crossed(codec().pack(frame())))  # what was sound says nothing of the next
    odd = torch.zeros(1, 8, 8, 2)
    for _ in range(2):
        with pytest.raises(BadMessage, match="motion is"):
            there.unpack(crossed(codec().pack(frame(motion=odd))))
    there.unpack(crossed(codec().pack(frame())))


def test_unknown_flags_are_refused():
    parcel = codec().pack(frame())
    odd = Parcel(replace(parcel.header, flags=64), parcel.planes)
    with pytest.raises(BadMessage, match="flags"):
        codec().unpack(crossed(odd))


def test_a_snapshot_that_comes_back_is_the_one_that_was_sent():
    """The guards take another object for another style, and let the picture jump."""
    store, here, there = ParamStore(BASE), Snapshots(BASE), Snapshots(BASE)
    for amount in (0.5, 0.25):
        sent = store.set("one", amount=amount)
        back = there.pack(there.unpack(here.pack(sent)))
        assert here.unpack(back) is sent


def test_snapshot_is_packed_and_validated_once():
    store, there = ParamStore(BASE), Snapshots(BASE)
    here = Snapshots(BASE)
    changed = store.set("one", amount=0.25, prompt="fog")
    data = here.pack(changed)
    assert here.pack(changed) is data
    got = there.unpack(data)
    assert got == changed
    assert there.unpack(bytes(bytearray(data))) is got


def test_only_live_options_cross():
    _, values = msgspec.msgpack.decode(Snapshots(BASE).pack(Params(BASE, 1)))
    assert values["two"] == {"amount": 0.5, "prompt": ""}
    other = {**BASE, "two": Options(kind="test", path="elsewhere")}
    assert Snapshots(other).unpack(Snapshots(BASE).pack(Params(BASE))).stages["two"].path == (
        "elsewhere"
    )


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([1, {"one": {"amount": 2.0}, "two": {}}], "stages.one.amount"),
        ([1, {"one": {"amount": "much"}, "two": {}}], "stages.one.amount"),
        ([1, {"one": {"path": "/etc"}, "two": {}}], "not live"),
        ([1, {"one": {"kind": "other"}, "two": {}}], "not live"),
        ([1, {"one": 5, "two": {}}], "version"),
        ([1, {"one": {}}], "the stages differ"),
        ([1, {"one": {}, "two": {}, "three": {}}], "the stages differ"),
        ([-1, {"one": {}, "two": {}}], "version"),
        ([True, {"one": {}, "two": {}}], "version"),
        ([1], "version"),
        ("x", "version"),
    ],
)
def test_parameters_are_checked_on_arrival(found, says):
    with pytest.raises(BadMessage, match=says) as caught:
        Snapshots(BASE).unpack(msgspec.msgpack.encode(found))
    assert caught.value.reason == "params"


def test_parameters_that_are_no_msgpack_are_refused():
    with pytest.raises(BadMessage, match="malformed"):
        Snapshots(BASE).unpack(b"\xc1")


def test_too_long_a_prompt_is_told_where_it_is_sent():
    long = ParamStore(BASE).set("one", prompt="x" * 20_000)
    with pytest.raises(WireError, match="shorten the prompts"):
        Snapshots(BASE).pack(long)
