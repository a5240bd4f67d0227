"""Nothing that comes from another process is believed."""

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from link_parcels import STREAM, header
from msgspec.msgpack import decode as unpacked
from msgspec.msgpack import encode as packed
from msgspec.structs import replace

from lsd.pipeline.errors import WireError
from lsd.pipeline.links.envelope import Envelope, Kind
from lsd.pipeline.links.header import (
    MAX_HEADER_BYTES,
    MAX_PARAMS_BYTES,
    Header,
    Plane,
    planes_of,
)
from lsd.pipeline.links.message import VERSION, BadMessage

CAPACITY = 1 << 20
WHOLE = Header(
    stream=STREAM, epoch=3, seq=2**40, pts_ns=-5, captured_ns=7, deadline_ns=9,
    planes=planes_of([("data", "float32", (1, 3, 8, 10)), ("motion", "float32", (1, 8, 10, 2))]),
    layout="NCHW", jumps=2, service_ns=11, published_ns=12, clock=2**64 - 1, slot=5, gen=2**50,
    rung=4, flags=5, params=b"\x01\x02",
)  # fmt: skip


def decode(data, *, epoch=3, capacity=CAPACITY):
    return Header.decode(data, stream=STREAM, epoch=epoch, capacity=capacity)


def fields():
    return unpacked(WHOLE.encode())


def changed(place, value):
    found = fields()
    found[place] = value
    return packed(found)


def reason_of(data, **expected):
    with pytest.raises(BadMessage) as caught:
        decode(data, **expected)
    return caught.value.reason


def test_header_comes_back_as_it_went():
    assert decode(WHOLE.encode()) == WHOLE
    assert decode(replace(WHOLE, deadline_ns=None).encode()).deadline_ns is None
    assert decode(memoryview(WHOLE.encode())) == WHOLE


def test_planes_that_are_the_same_array_cross_once():
    one, two = Plane("data", "uint8", (1, 4, 4, 3), 0), Plane("source", "uint8", (1, 4, 4, 3), 0)
    motion = Plane("motion", "float32", (1, 4, 4, 2), 64)
    shared = replace(WHOLE, planes=(one, two, motion))
    assert shared.nbytes == 64 + 128
    assert decode(shared.encode()).planes == (one, two, motion)


def test_each_wrong_kind_of_message_has_its_reason():
    assert reason_of(changed(0, VERSION + 1)) == "version"
    assert reason_of(packed([99])) == "version", "whatever else it holds"
    assert reason_of(WHOLE.encode(), epoch=4) == "epoch"
    assert reason_of(WHOLE.encode(), capacity=WHOLE.nbytes - 1) == "oversized"
    assert decode(WHOLE.encode(), capacity=WHOLE.nbytes) == WHOLE
    assert reason_of(b"\x00" * (MAX_HEADER_BYTES + 1)) == "oversized"
    assert reason_of(changed(1, "other")) == "malformed"
    assert reason_of(WHOLE.encode()[:-1]) == "malformed"
    assert reason_of(WHOLE.encode() + b"\0") == "malformed"
    assert reason_of(b"") == "malformed"


@pytest.mark.parametrize("place", range(1, 18))
@pytest.mark.parametrize("value", [None, True, -1, 2**63, 1.5, "x", b"x", [], {}, [[]], "é" * 40])
def test_no_field_takes_a_value_of_another_type_or_range(place, value):
    good = {
        (6, None), (17, b"x"),  # no deadline; other parameters
        (4, -1), (5, -1), (6, -1), (11, -1),  # times may be negative
        (12, 2**63), (14, 2**63),  # 64 bits
    }  # fmt: skip
    if any((place, value) == each and type(value) is type(each[1]) for each in good):
        decode(changed(place, value))
    else:
        assert reason_of(changed(place, value)) in {"malformed", "epoch"}


@pytest.mark.parametrize(
    "planes",
    [
        [["data", "uint8", [1, 4, 4, 3], 64]],  # a hole
        [["data", "uint8", [1, 4, 4, 3], 0], ["data", "uint8", [1, 4, 4, 3], 0]],  # twice
        [["data", "uint8", [1, 4, 4, 3], 0], ["source", "uint8", [1, 4, 4, 4], 0]],  # overlap
        [["data", "float64", [1, 4, 4, 3], 0]],
        [["data", "object", [1, 4, 4, 3], 0]],
        [["pixels", "uint8", [1, 4, 4, 3], 0]],
        [[["data"], "uint8", [1, 4, 4, 3], 0]],
        [["data", "uint8", [4, 4, 3], 0]],
        [["data", "uint8", [1, 0, 4, 3], 0]],
        [["data", "uint8", [1, 2**40, 2**40, 3], 0]],
        [["data", "uint8", [1, -4, -4, 3], 0]],
        [["data", "uint8", [1, 4, 4, 3], 0, 0]],
        [["data", "uint8", [1, 4, 4, 3], -64]],
    ],
)
def test_planes_are_checked(planes):
    assert reason_of(changed(7, planes)) == "malformed"


def test_header_with_too_long_parameters_is_not_sent():
    with pytest.raises(WireError, match="shorten the prompts"):
        replace(WHOLE, params=b"x" * MAX_HEADER_BYTES).encode()
    decode(replace(WHOLE, params=b"x" * MAX_PARAMS_BYTES).encode())


@given(st.binary(max_size=400))
@example(b"\xdd\xff\xff\xff\xff")  # an array of 4 billion
@example(b"\xdb\xff\xff\xff\xff")  # a text of 4 GB
@example(b"\xc6\xff\xff\xff\xff")  # as many bytes
@example(b"\x91" * 300)  # arrays in arrays
def test_random_bytes_are_refused_in_a_word(data):
    for read in (decode, Envelope.decode):
        with pytest.raises(BadMessage):
            read(data)


@given(st.integers(0, len(WHOLE.encode()) * 8 - 1))
def test_flipped_bits_are_refused_or_make_another_sound_header(bit):
    data = bytearray(WHOLE.encode())
    data[bit // 8] ^= 1 << bit % 8
    try:
        found = decode(bytes(data))
    except BadMessage:
        return
    assert found != WHOLE
    assert found.nbytes <= CAPACITY
    assert decode(found.encode()) == found


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
        | st.binary(),
        lambda inner: st.lists(inner, max_size=22) | st.dictionaries(st.text(), inner, max_size=4),
    ),
    st.integers(0, 17),
)  # fmt: skip
def test_any_value_in_any_field_is_refused_or_sound(value, place):
    try:
        found = decode(changed(place, value))
    except BadMessage:
        return
    assert decode(found.encode()) == found


def test_refusing_takes_no_memory():
    bombs = [
        b"\xdd\x7f\xff\xff\xff" + b"\x01" * 15_000,
        changed(7, [["data", "uint8", [1, 16_384, 16_384, 16_384], 0]]),
        changed(7, [["data", "uint8", [1, 4, 4, 3], 0]] * 700),
        changed(17, b"x" * 15_000),
    ]
    tracemalloc.start()
    try:
        for bomb in bombs:
            reason_of(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_times_of_another_clock_keep_their_ages_only():
    sent = header(1, captured_ns=900, deadline_ns=1100, pts_ns=900, published_ns=1000, clock=1)
    here = sent.rebased(clock=2, now_ns=50_000)
    assert (here.captured_ns, here.deadline_ns, here.pts_ns) == (49_900, 50_100, 49_900)
    assert (here.published_ns, here.clock) == (50_000, 2)
    assert sent.rebased(clock=1, now_ns=50_000) is sent
    file = replace(sent, deadline_ns=None).rebased(clock=2, now_ns=50_000)
    assert file.pts_ns == 900, "a file's time stamps are no clock's"


@pytest.mark.parametrize(
    "times",
    [
        {"captured_ns": -(2**63), "published_ns": 2**63 - 1},
        {"deadline_ns": 2**63 - 1, "published_ns": -1},
        {"pts_ns": 2**63 - 1, "deadline_ns": 5, "published_ns": -(2**63)},
    ],
)
def test_times_of_another_clock_that_lie_too_far_apart_are_refused(times):
    sent = decode(replace(WHOLE, clock=1, **times).encode())
    with pytest.raises(BadMessage, match="too far apart"):
        sent.rebased(clock=2, now_ns=50_000)


def test_envelope_comes_back_as_it_went():
    message = Envelope(Kind.STATUS, 2**62, 7, 3, 2**40, 9, True)
    assert Envelope.decode(message.encode()) == message


@pytest.mark.parametrize("place", range(1, 8))
@pytest.mark.parametrize("value", [None, -1, 2**63, "x", 1.5, [1]])
def test_envelope_takes_no_value_of_another_type_or_range(place, value):
    found = unpacked(Envelope(Kind.DATA, 1, 2).encode())
    found[place] = value
    with pytest.raises(BadMessage):
        Envelope.decode(packed(found))


def test_envelope_of_another_version_is_counted_as_that():
    with pytest.raises(BadMessage) as caught:
        Envelope.decode(packed([VERSION + 1, "anything"]))
    assert caught.value.reason == "version"
