"""Parcels for the tests of links: pictures of one value, which a torn one is not."""

import numpy as np

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.links.header import Header, planes_of
from lsd.pipeline.links.parcel import Parcel

STREAM = "s"
SIDE = 16
PIXEL_BYTES = SIDE * SIDE * 3


def planes(side=SIDE):
    return planes_of([("data", "uint8", (1, side, side, 3))])


def header(number, side=SIDE, **others):
    facts = {"pts_ns": number * 1000, "captured_ns": number, "deadline_ns": None, **others}
    return Header(stream=STREAM, epoch=0, seq=number, planes=planes(side), **facts)


def parcel(number, side=SIDE, **others):
    array = np.full((1, side, side, 3), number % 251, np.uint8)
    return Parcel(header(number, side, **others), {"data": array})


def number_of(found):
    """Return which parcel this is; its pixels must all be that one's."""
    number, data = found.header.seq, found.planes["data"]
    assert (data == number % 251).all(), f"a torn picture: {number}, {np.unique(data)}"
    return number


def drained(link, timeout_s=20):
    """Take everything until the link ends; return the numbers, and what ended it."""
    numbers = []
    try:
        while True:
            numbers.append(number_of(link.get(timeout_s)))
    except LinkClosed as error:
        return numbers, error
