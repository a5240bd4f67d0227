"""What must never happen on a link, tried many times, for `lsd.lab.hops`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from lsd.lab.hop_transports import Place, spawn
from lsd.lab.interrupts import deaf
from lsd.pipeline.errors import LinkClosed
from lsd.pipeline.links.endpoints import run_directory
from lsd.pipeline.links.header import Header, planes_of
from lsd.pipeline.links.parcel import Parcel, Parcels
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.wire_receiver import WireReceiver
from lsd.pipeline.links.wire_sender import WireSender

_SIDE = 64
_STREAM = "proof"
_PATIENCE_S = 30.0


def torn_frames(reads: int) -> dict[str, Any]:
    """Read frames that another process writes as fast as it can, and look at every pixel.

    Returns:
        reads, torn, and what the ring itself counted.
    """
    ring = Ring.create("torn", pixel_bytes=_SIDE * _SIDE * 3, capacity=1, policy="drop_oldest")
    reader = RingReader(ring, _STREAM, Parcels())
    torn = backwards = 0
    last = -1
    with _child(_scribble) as (channel, _):
        ring.send(channel)
        started = time.monotonic()
        for _ in range(reads):
            with reader.take(_PATIENCE_S) as parcel:
                number, data = parcel.header.seq, parcel.planes["data"]
                torn += not bool((data == number % 251).all())
                backwards += number <= last
                last = number
        seconds = time.monotonic() - started
    stats = reader.stats()
    reader.close()
    ring.close()
    return {
        "reads": reads, "torn": torn, "out_of_order": backwards, "written": stats.put,
        "reasons": dict(stats.reasons), "reads_hz": round(reads / seconds),
    }  # fmt: skip


def last_frames(runs: int) -> dict[str, Any]:
    """Send two frames and the end through a wire at high-water mark 1, again and again.

    Returns:
        runs, and in how many the last frame was delivered.
    """
    delivered = 0
    array = np.zeros((1, _SIDE, _SIDE, 3), np.uint8)
    with run_directory() as folder, _child(_report_last) as (_, results):
        for run in range(runs):
            endpoint = f"ipc://{folder}/{run}"
            sender = WireSender(
                endpoint, _STREAM, Parcels(), bind=True, capacity=1, policy="drop_oldest"
            )
            results.send(endpoint)
            for number in (run, run + 1):
                sender.put(Parcel(_header(number), {"data": array}))
            sender.close()
            delivered += results.recv() == run + 1
        results.send(None)
    return {"runs": runs, "delivered": delivered}


def _header(number: int) -> Header:
    planes = planes_of([("data", "uint8", (1, _SIDE, _SIDE, 3))])
    return Header(_STREAM, 0, number, 0, 0, None, planes)


def _scribble(place: Place, _: Connection) -> None:
    writer = RingWriter(Ring.receive(place.channel), _STREAM, Parcels())
    number = 0
    with suppress(LinkClosed):
        while True:
            with writer.loan(_header(number)) as arrays:
                arrays["data"][:] = number % 251
            number += 1


def _report_last(_: Place, results: Connection) -> None:
    while (endpoint := results.recv()) is not None:
        receiver = WireReceiver(
            endpoint, _STREAM, Parcels(), bind=False, policy="drop_oldest", max_bytes=1 << 20
        )
        last = -1
        with suppress(LinkClosed, TimeoutError):
            while True:
                last = receiver.get(_PATIENCE_S).header.seq
        receiver.close()
        results.send(last)


@contextmanager
def _child(work: Any) -> Iterator[tuple[Any, Connection]]:
    """Run `work` in a process that is killed at the end of the block."""
    import socket

    from lsd.pipeline.frame import Size

    here, there = socket.socketpair()
    results, other = spawn.Pipe()
    place = Place(Size(_SIDE, _SIDE), "", there, None)
    process = spawn.Process(target=work, args=(place, other), daemon=True)
    with deaf():
        process.start()
    there.close()
    other.close()
    try:
        yield here, results
    finally:
        process.kill()
        process.join()
        here.close()
        results.close()
