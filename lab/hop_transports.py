"""What a frame can cross from one process to another by, ours and others', for `lsd.lab.hops`.

Each transport is two halves: `Outlet` in the benchmark's process, `inlet` in a process of its own.
Every frame begins with 16 bytes: when it was sent, and its number.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.synchronize
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import numpy as np
import zmq

from lsd.pipeline.frame import Size
from lsd.pipeline.links.header import Header, planes_of
from lsd.pipeline.links.parcel import Array, Parcel, Parcels
from lsd.pipeline.links.ring import Ring
from lsd.pipeline.links.ring_reader import RingReader
from lsd.pipeline.links.ring_writer import RingWriter
from lsd.pipeline.links.wire_receiver import WireReceiver
from lsd.pipeline.links.wire_sender import WireSender

spawn = multiprocessing.get_context("spawn")

_STREAM = "bench"
_TICK_S = 0.1  # how often a receiver that gets nothing looks whether that was all

# Wait up to so many seconds for a frame; call back with the pixels while they are valid.
Receive = Callable[[float, Callable[[Array], None]], None]


class Place(NamedTuple):
    """What the halves of a transport meet by.

    Attributes:
        size: of the frames.
        path: of a Unix socket in a directory of our own; also a name that nobody else uses.
        channel: a socket to hand descriptors over by.
        queue: for the transport that is one.
    """

    size: Size
    path: str
    channel: socket.socket
    queue: Any


class Outlet(Protocol):
    """The sending half."""

    def send(self, frame: Array, number: int) -> None:
        """Stamp and send one frame."""

    def close(self) -> None: ...


def stamp(frame: Array, number: int) -> None:
    """Write the time and the number into a frame."""
    frame.reshape(-1)[:16].view(np.int64)[:] = time.monotonic_ns(), number


def serve(kind: str, place: Place, results: Connection) -> None:
    """Receive until told to stop; then report [number, how long it took in ns] of each."""
    receive, close = INLETS[kind](place)
    found: list[tuple[int, int]] = []

    def note(frame: Array) -> None:
        now_ns = time.monotonic_ns()
        flat = frame.reshape(-1)
        sent_ns, number = (int(value) for value in flat[:16].view(np.int64))
        assert flat[-1] == number % 251, "the last pixel is another frame's"
        found.append((number, now_ns - sent_ns))

    results.send("ready")
    while not results.poll():
        receive(_TICK_S, note)
    results.send(found)
    close()


def shape(size: Size) -> tuple[int, int, int, int]:
    """Return the shape of a frame's pixels."""
    return 1, size.height, size.width, 3


def _header(size: Size) -> Header:
    planes = planes_of([("data", "uint8", shape(size))])
    return Header(_STREAM, 0, 0, 0, 0, None, planes)


class _RingOutlet:
    """Ours, in shared memory."""

    def __init__(self, place: Place) -> None:
        nbytes = place.size.width * place.size.height * 3
        ring = Ring.create("bench", pixel_bytes=nbytes, capacity=1, policy="drop_oldest")
        ring.send(place.channel)
        self._writer = RingWriter(ring, _STREAM, Parcels())
        ring.close()
        self._header = _header(place.size)

    def close(self) -> None:
        self._writer.close()


class _InPlace(_RingOutlet):
    """The stage's last step is taken to have written the picture into the slot."""

    def send(self, frame: Array, number: int) -> None:
        with self._writer.loan(self._header) as arrays:
            np.copyto(arrays["data"], frame)
            stamp(arrays["data"], number)


class _Copied(_RingOutlet):
    def send(self, frame: Array, number: int) -> None:
        stamp(frame, number)
        self._writer.put(Parcel(self._header, {"data": frame}))


class _InPlaceZmq(_InPlace):
    """The same ring, the reader woken by a ZeroMQ message instead of an eventfd."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._socket = _socket(zmq.PUSH, f"ipc://{place.path}", bind=True)

    def send(self, frame: Array, number: int) -> None:
        super().send(frame, number)
        self._socket.send(self._header.encode())

    def close(self) -> None:
        super().close()
        self._socket.close(0)


def _ring_inlet(place: Place) -> tuple[Receive, Callable[[], None]]:
    ring = Ring.receive(place.channel)
    reader = RingReader(ring, _STREAM, Parcels())

    def receive(timeout_s: float, note: Callable[[Array], None]) -> None:
        with suppress(TimeoutError), reader.take(timeout_s) as parcel:
            note(parcel.planes["data"])

    return receive, reader.close


def _ring_copy_inlet(place: Place) -> tuple[Receive, Callable[[], None]]:
    ring = Ring.receive(place.channel)
    reader = RingReader(ring, _STREAM, Parcels())

    def receive(timeout_s: float, note: Callable[[Array], None]) -> None:
        with suppress(TimeoutError):
            note(reader.get(timeout_s).planes["data"])

    return receive, reader.close


def _ring_zmq_inlet(place: Place) -> tuple[Receive, Callable[[], None]]:
    take, close = _ring_inlet(place)
    sock = _socket(zmq.PULL, f"ipc://{place.path}", bind=False)

    def receive(timeout_s: float, note: Callable[[Array], None]) -> None:
        if sock.poll(int(timeout_s * 1000)):
            sock.recv()
            take(0, note)

    return receive, close


class _Wire:
    """Ours, through a Unix socket."""

    def __init__(self, place: Place) -> None:
        self._sender = WireSender(
            f"ipc://{place.path}", _STREAM, Parcels(), bind=True, capacity=1, policy="drop_oldest"
        )
        self._header = _header(place.size)

    def send(self, frame: Array, number: int) -> None:
        frame = frame.copy()  # what is sent must stay as it is; not timed
        stamp(frame, number)
        self._sender.put(Parcel(self._header, {"data": frame}))

    def close(self) -> None:
        self._sender.close()


def _wire_inlet(place: Place) -> tuple[Receive, Callable[[], None]]:
    nbytes = place.size.width * place.size.height * 3
    receiver = WireReceiver(
        f"ipc://{place.path}", _STREAM, Parcels(), bind=False, policy="drop_oldest",
        max_bytes=nbytes,
    )  # fmt: skip

    def receive(timeout_s: float, note: Callable[[Array], None]) -> None:
        with suppress(TimeoutError):
            note(receiver.get(timeout_s).planes["data"])

    return receive, receiver.close


class _RawZmq:
    """PUSH and PULL with nothing around them."""

    copy = True

    def __init__(self, place: Place) -> None:
        self._socket = _socket(zmq.PUSH, f"ipc://{place.path}", bind=True)

    def send(self, frame: Array, number: int) -> None:
        if not self.copy:
            frame = frame.copy()
        stamp(frame, number)
        self._socket.send(frame.data, 0, self.copy)

    def close(self) -> None:
        self._socket.close(0)


class _RawZmqNoCopy(_RawZmq):
    copy = False


def _zmq_inlet(place: Place, *, copy: bool) -> tuple[Receive, Callable[[], None]]:
    sock = _socket(zmq.PULL, f"ipc://{place.path}", bind=False)

    def receive(timeout_s: float, note: Callable[[Array], None]) -> None:
        if sock.poll(int(timeout_s * 1000)):
            data: Any = sock.recv(copy=copy)
            note(np.frombuffer(data if copy else data.buffer, np.uint8))

    return receive, lambda: sock.close(0)


class _Queue:
    """multiprocessing.Queue."""

    def __init__(self, place: Place) -> None:
        self._queue = place.queue

    def send(self, frame: Array, number: int) -> None:
        frame = frame.copy()
        stamp(frame, number)
        self._queue.put(frame)

    def close(self) -> None:
        self._queue.close()


def _queue_inlet(place: Place) -> tuple[Receive, Callable[[], None]]:
    import queue

    def receive(timeout_s: float, note: Callable[[Array], None]) -> None:
        with suppress(queue.Empty):
            note(place.queue.get(timeout=timeout_s))

    return receive, place.queue.close


class _Iceoryx:
    """iceoryx2, written in place, woken by its own events."""

    def __init__(self, place: Place) -> None:
        services, events = _iceoryx_services(place)
        length = place.size.width * place.size.height * 3
        builder = services.publisher_builder().initial_max_slice_len(length)
        self._publisher, self._notifier = builder.create(), events.notifier_builder().create()
        self._length = length
        self._keep = services, events

    def send(self, frame: Array, number: int) -> None:
        sample = self._publisher.loan_slice_uninit(self._length)
        array = _on(sample.payload(), self._length)
        np.copyto(array, frame.reshape(-1))
        stamp(array, number)
        sample.assume_init().send()
        self._notifier.notify()

    def close(self) -> None:
        self._publisher.delete()
        self._notifier.delete()


def _iceoryx_inlet(place: Place) -> tuple[Receive, Callable[[], None]]:
    iceoryx2 = import_module("iceoryx2")
    services, events = _iceoryx_services(place)
    subscriber = services.subscriber_builder().create()
    listener = events.listener_builder().create()
    length = place.size.width * place.size.height * 3

    def receive(timeout_s: float, note: Callable[[Array], None]) -> None:
        listener.timed_wait(iceoryx2.Duration.from_secs_f64(timeout_s))
        while (sample := subscriber.receive()) is not None:
            note(_on(sample.payload(), length))
            sample.delete()

    return receive, subscriber.delete


def _iceoryx_services(place: Place) -> tuple[Any, Any]:
    iceoryx2 = import_module("iceoryx2")
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
    name = iceoryx2.ServiceName.new(place.path)
    frames = node.service_builder(name).publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
    return frames.open_or_create(), node.service_builder(name).event().open_or_create()


def _on(payload: Any, length: int) -> Array:
    pointer = ctypes.cast(payload.as_ptr(), ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pointer, (length,))


def _socket(kind: int, endpoint: str, *, bind: bool) -> zmq.Socket[bytes]:
    sock: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    sock.set_hwm(4)
    if bind:
        sock.bind(endpoint)
    else:
        sock.connect(endpoint)
    return sock


OUTLETS: dict[str, Callable[[Place], Outlet]] = {
    "ring, in place": _InPlace,
    "ring, in place, woken by ZeroMQ": _InPlaceZmq,
    "ring, copied in": _Copied,
    "ring, copied in and out": _Copied,
    "wire, ipc": _Wire,
    "raw ZeroMQ ipc": _RawZmq,
    "raw ZeroMQ ipc, copy=False": _RawZmqNoCopy,
    "multiprocessing.Queue": _Queue,
    "iceoryx2, in place": _Iceoryx,
}
INLETS: dict[str, Callable[[Place], tuple[Receive, Callable[[], None]]]] = {
    "ring, in place": _ring_inlet,
    "ring, in place, woken by ZeroMQ": _ring_zmq_inlet,
    "ring, copied in": _ring_inlet,
    "ring, copied in and out": _ring_copy_inlet,
    "wire, ipc": _wire_inlet,
    "raw ZeroMQ ipc": lambda place: _zmq_inlet(place, copy=True),
    "raw ZeroMQ ipc, copy=False": lambda place: _zmq_inlet(place, copy=False),
    "multiprocessing.Queue": _queue_inlet,
    "iceoryx2, in place": _iceoryx_inlet,
}
