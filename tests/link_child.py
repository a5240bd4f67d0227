"""What the other process of a test of links does: python link_child.py ROLE ENDPOINT POLICY."""

import sys
import time

from link_parcels import PIXEL_BYTES, STREAM, number_of, parcel

from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.links.parcel import Parcels
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.wire_receiver import WireReceiver
from lsd.pipeline.links.wire_sender import WireSender


def sender(place, policy):
    if "://" in place:
        return WireSender(place, STREAM, Parcels(), bind=False, capacity=2, policy=policy)
    return RingWriter(Ring.parse(place), STREAM, Parcels())


def receiver(place, policy):
    if "://" in place:
        return WireReceiver(
            place, STREAM, Parcels(), bind=False, policy=policy, max_bytes=PIXEL_BYTES
        )
    return RingReader(Ring.parse(place), STREAM, Parcels())


def write(place, policy, first):
    """Write as fast as possible, for ever."""
    end = sender(place, policy)
    print("ready", flush=True)
    for number in range(first, 1 << 40):
        end.put(parcel(number))


def write_some(place, policy, count):
    """Write so many and close."""
    end = sender(place, policy)
    print("ready", flush=True)
    for number in range(count):
        end.put(parcel(number))
    end.close()


def write_half(place, _policy, number):
    """Stop in the middle of a loan."""
    end = sender(place, "")
    end.put(parcel(number))
    with end.loan(parcel(number + 1).header):
        print("ready", flush=True)
        time.sleep(600)


def read(place, policy, _):
    """Read for ever; say each number."""
    end = receiver(place, policy)
    print("ready", flush=True)
    try:
        while True:
            print(number_of(end.get()), flush=True)
    except LinkClosed:
        print("closed", flush=True)
        end.close()


def hold(place, _policy, _):
    """Take one frame and keep it."""
    end = receiver(place, "")
    with end.take(30):
        print("ready", flush=True)
        time.sleep(600)


def lock(place, _policy, _):
    """Stop with the ring's lock held."""
    end = receiver(place, "")
    with end._table.lock:
        print("ready", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    what, place, policy, number = sys.argv[1:]
    globals()[what](place, policy, int(number))
